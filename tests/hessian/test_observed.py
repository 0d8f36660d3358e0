"""Sharpness, spectrum, trace and norm where part of the product is observed, against dense Hessians."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.oracles import dense_observed_hessian

WIDTHS = st.lists(st.integers(1, 4), min_size=2, max_size=6)


def drawn(widths, rng):
    return [torch.from_numpy(rng.standard_normal((b, a))) for a, b in pairwise(widths)]


def cases(product, rng):
    """The three spellings: the arguments, the target, and the loss written as it is."""
    mask = torch.from_numpy(rng.random(product.shape) < 0.5)
    mask.view(-1)[rng.integers(product.numel())] = True
    weights = torch.from_numpy(rng.random(product.shape)) * mask
    matrices = torch.from_numpy(rng.standard_normal((rng.integers(1, 6), *product.shape)))
    unseen = product.masked_fill(~mask, torch.nan)
    outcomes = torch.stack([(A * product).sum() for A in matrices])

    def of_measurements(W):
        return sum((y - (A * W).sum()) ** 2 for y, A in zip(outcomes, matrices, strict=True))

    return [
        ({"observed": mask}, unseen, lambda W: (product - W)[mask].pow(2).sum()),
        ({"observed": weights}, unseen, lambda W: (weights * (product - W) ** 2).sum()),
        ({"measurements": matrices}, outcomes, of_measurements),
    ]


@settings(max_examples=20, deadline=None)
@given(WIDTHS, st.integers(0, 2**32 - 1))
def test_everything_is_that_of_the_dense_hessian(widths, seed):
    rng = np.random.default_rng(seed)
    W = drawn(widths, rng)
    for arguments, target, loss in cases(dmf.end_to_end(W), rng):
        hessian = dense_observed_hessian(W, loss)
        expected = torch.linalg.eigvalsh(hessian).flip(0)
        top = float(expected[0])
        for method in ("auto", "dense", "lanczos"):
            s = dmf.sharpness(W, **arguments, target=target, method=method)
            assert s.value == pytest.approx(top, rel=1e-12)
            assert s.converged
            vector = torch.cat([U.reshape(-1) for U in s.eigenvector])
            assert float((hessian @ vector - top * vector).norm()) <= 1e-9 * top
            second = float(expected[1]) if len(expected) > 1 else 0.0
            assert s.gap == pytest.approx(top - max(second, 0.0), abs=2e-5 * top)
            assert s.upper_bound >= s.value * (1 - 1e-12)
        spectrum = dmf.hessian_spectrum(W, **arguments)
        padded = torch.nn.functional.pad(spectrum, (0, len(expected)))[: len(expected)]
        np.testing.assert_allclose(padded, expected, atol=1e-12 * top)
        values, vectors = dmf.hessian_eigenvectors(W, **arguments)
        np.testing.assert_allclose(vectors @ hessian @ vectors.T, values.diag(), atol=1e-9 * top)
        assert dmf.hessian_trace(W, **arguments) == pytest.approx(float(hessian.trace()), rel=1e-12)
        norm = float(torch.linalg.matrix_norm(hessian))
        assert dmf.hessian_frobenius_norm(W, **arguments) == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("method", ["dense", "lanczos"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_is_its_members(method, shared):
    rng = np.random.default_rng(5)
    W = [torch.from_numpy(rng.standard_normal((2, 3, b, a))) for a, b in [(4, 5), (5, 2), (2, 3)]]
    batch = () if shared else (2, 3)
    weights = torch.from_numpy(rng.random((*batch, 3, 4)))
    matrices = torch.from_numpy(rng.standard_normal((*batch, 5, 3, 4)))
    for name, given_ in (("observed", weights), ("measurements", matrices)):
        s = dmf.sharpness(W, **{name: given_}, method=method)
        trace = dmf.hessian_trace(W, **{name: given_})
        norm = dmf.hessian_frobenius_norm(W, **{name: given_})
        for b in np.ndindex(2, 3):
            arguments = {name: given_ if shared else given_[b]}
            one = [layer[b] for layer in W]
            alone = dmf.sharpness(one, **arguments)
            assert float(s.value[b]) == pytest.approx(alone.value, rel=1e-12)
            assert float(s.gap[b]) == pytest.approx(alone.gap, abs=1e-5 * alone.value)
            assert float(s.upper_bound[b]) == pytest.approx(alone.upper_bound, rel=1e-12)
            assert float(trace[b]) == pytest.approx(dmf.hessian_trace(one, **arguments))
            assert float(norm[b]) == pytest.approx(dmf.hessian_frobenius_norm(one, **arguments))


def test_all_entries_observed_is_matrix_factorization():
    W = drawn([3, 4, 5, 2], np.random.default_rng(1))
    whole = dmf.sharpness(W)
    everything = dmf.sharpness(W, observed=torch.ones(2, 3, dtype=torch.bool))
    units = torch.eye(6, dtype=torch.float64).reshape(6, 2, 3)
    assert everything.value == pytest.approx(whole.value, rel=1e-14)
    assert dmf.sharpness(W, measurements=units).value == pytest.approx(whole.value, rel=1e-14)


def diagonal(*entries):
    return torch.diag(torch.tensor(entries, dtype=torch.float64))


@pytest.mark.parametrize("size", [2.0**-400, 2.0**-160, 1.0, 2.0**160, 2.0**400])
@pytest.mark.parametrize("weight", [2.0**-600, 1.0, 2.0**600])
def test_powers_of_two_change_no_digit(size, weight):
    W = drawn([3, 4, 2], np.random.default_rng(3))
    mask = torch.tensor([[True, False, True], [False, False, True]])
    expected = dmf.sharpness(W, observed=mask)
    s = dmf.sharpness([size * layer for layer in W], observed=weight * mask.double())
    exponent = 2 * math.log2(size) + math.log2(weight)
    if abs(exponent) > 1000:
        assert s.value in (0.0, math.inf) or not s.converged
        return
    assert s.converged
    assert s.value == pytest.approx(math.ldexp(expected.value, int(exponent)), rel=1e-14)
    trace = dmf.hessian_trace(W, observed=mask)
    found = dmf.hessian_trace([size * layer for layer in W], observed=weight * mask.double())
    assert found == pytest.approx(math.ldexp(trace, int(exponent)), rel=1e-14)


def test_entries_much_smaller_than_the_product():
    corner = torch.tensor([[False, False], [False, True]])
    for exponent, known in ((-50, True), (-75, True), (-120, False)):
        W = diagonal(1.0, 10.0**exponent)
        s = dmf.sharpness([W, W], observed=corner)
        assert s.converged == known
        if known:
            assert s.value == pytest.approx(4 * 10.0 ** (2 * exponent), rel=1e-12)
    nothing = dmf.sharpness([diagonal(1.0, 0.0)] * 2, observed=corner)
    assert (nothing.value, nothing.residual, nothing.converged) == (0.0, 0.0, True)


ONES = torch.ones(2, 2, dtype=torch.float64)
MATRICES = torch.ones(3, 2, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observed": torch.ones(3, 2, dtype=torch.bool)}, r"observed: expected shape \(2, 2\)"),
        ({"observed": -ONES}, "observed: expected no negative weight, got -1"),
        ({"observed": torch.nan * ONES}, "observed: expected finite values"),
        ({"observed": 0 * ONES}, "observed: expected an entry with a positive weight, got none"),
        ({"observed": ONES, "measurements": MATRICES}, "measurements: expected None beside observed"),
        ({"observed": ONES, "input_gram": ONES}, "observed: expected None beside input_gram"),
        ({"measurements": MATRICES, "input_root": ONES}, "measurements: expected None beside input_root"),
        ({"measurements": MATRICES[:, :, :1]}, r"measurements: expected shape \(…, 2, 2\)"),
        ({"measurements": MATRICES[:0]}, "measurements: expected a matrix that is not zero"),
        ({"measurements": torch.inf * MATRICES}, "measurements: expected finite values"),
        ({"observed": ONES, "method": "low-rank"}, "method: expected one of"),
        ({"observed": ONES, "target": ONES}, "target: expected factors whose product fits what is"),
        ({"measurements": MATRICES, "target": torch.ones(3).double()}, "target: expected factors whose"),
        ({"measurements": MATRICES, "target": ONES}, r"target: expected shape \(3,\)"),
    ],
)  # fmt: skip
def test_bad_arguments_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        dmf.sharpness([diagonal(1.0, 2.0)] * 2, **arguments)
    assert "\n" not in str(raised.value)


def test_noisy_measurements_need_an_orthogonal_residual_only():
    W = [diagonal(1.0, 2.0)] * 2
    A = torch.stack([diagonal(1.0, 0.0), diagonal(1.0, 0.0), diagonal(0.0, 1.0)])
    # Two outcomes of one measurement, whose mean the product is: the loss stays at 2.
    target = torch.tensor([0.0, 2.0, 4.0], dtype=torch.float64)
    s = dmf.sharpness(W, measurements=A, target=target)
    loss = lambda P: sum((y - (a * P).sum()) ** 2 for y, a in zip(target, A, strict=True))  # noqa: E731
    top = torch.linalg.eigvalsh(dense_observed_hessian(W, loss))[-1]
    assert s.value == pytest.approx(float(top), rel=1e-12)

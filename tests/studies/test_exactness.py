"""The columns of the sharpness table, against numbers that were computed by hand."""

import math

import pytest
import torch

from dmf_sharpness.claims.exactness import spectrum
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.minimizers.targets import regression
from dmf_sharpness.studies import exactness
from dmf_sharpness.studies.exactness import evaluate


def diagonal(*entries):
    return torch.diag(torch.tensor(entries, dtype=torch.float64))


def number(value):
    return torch.tensor([[value]], dtype=torch.float64)


def ensemble(*minimizers, target=None, root=None):
    """An ensemble of minimizers, of which each is given by its factors."""
    factors = [torch.stack(layer) for layer in zip(*minimizers, strict=True)]
    widths = (factors[0].shape[-1], *(W.shape[-2] for W in factors))
    if target is None:
        target = torch.stack([torch.linalg.multi_dot(list(reversed(W))) for W in minimizers])
    return Ensemble(0, widths, ("explicit",) * len(minimizers), factors, target, root)


@pytest.fixture
def matrices():
    """Two minimizers of ``diag(4, 1)``, ``λ_flat = 16``; the second one is flat."""
    return ensemble(
        [diagonal(3, 1), diagonal(4 / 3, 1)],
        [diagonal(2, 1), diagonal(2, 1)],
    )


def test_a_sharp_minimizer_and_a_flat_one_of_two_matrices(matrices):
    """The spectra are ``2(a_k² + b_j²)`` for the entries ``a``, ``b`` of the two factors."""
    sharp, flat = (row for _, row in evaluate(matrices, None).iterrows())
    assert sharp.loss == pytest.approx(0, abs=1e-29)
    assert sharp.sharpness == pytest.approx(194 / 9, rel=1e-14)
    assert sharp.oracle_sharpness == pytest.approx(194 / 9, rel=1e-14)
    assert sharp.flat_sharpness == pytest.approx(16)
    assert sharp.control_sharpness == pytest.approx(16)
    assert sharp.excess == pytest.approx(194 / 144 - 1)
    # The relative products are 2/3 and 3/2.
    assert sharp.spectral_imbalance == pytest.approx(1 / 2)
    assert sharp.product_spread == pytest.approx(9 / 4 - 1)
    assert sharp.balance_excess == pytest.approx((4 / 9 + 9 / 4) / 2 - 1)
    assert sharp.least_excess == pytest.approx((4 / 9 + 9 / 4) / 2 - 1)
    assert sharp.frobenius_imbalance == pytest.approx(math.sqrt(10 / (25 / 9)))
    assert sharp.relative_difference < 1e-14
    assert sharp.spectrum_difference < 1e-14
    assert sharp.eigenvector_residual < 1e-14
    # The others' spectra are 2(8, 5, 5, 2) and 2(97/9, 10, 25/9, 2): they differ most in second place.
    assert sharp.control_spectrum_difference == pytest.approx(10 / (194 / 9))
    assert flat.control_spectrum_difference == pytest.approx(10 / 16)
    # Both have their top eigenvector on the entries (1, 1), as (W_2, W_1): (4/3, 3) and (1, 1).
    v = torch.tensor([1, 1], dtype=torch.float64) / math.sqrt(2)
    image = 2 * (4 / 3 + 3) * torch.tensor([4 / 3, 3], dtype=torch.float64) / math.sqrt(2)
    residual = float(torch.linalg.vector_norm(image - 194 / 9 * v)) / (194 / 9)
    assert sharp.control_eigenvector_residual == pytest.approx(residual)
    assert (flat.excess, flat.spectral_imbalance) == pytest.approx((0, 0), abs=1e-14)
    assert flat.frobenius_imbalance == pytest.approx(1)


def test_a_single_minimizer_is_no_control_of_itself():
    alone = evaluate(ensemble([diagonal(3, 1), diagonal(4 / 3, 1)]), None)
    assert alone.control_spectrum_difference.isna().all()
    assert alone.control_eigenvector_residual.isna().all()
    (claim,) = spectrum(alone.assign(experiment="e"))
    assert (claim.verdict, claim.control.n, claim.control.verdict) == ("holds", 0, "holds")


def test_the_largest_imbalance_may_be_below_balance():
    """The scalars 2, 1/√2, 1/√2 have the product 1 and the relative products 1/2, √2, √2."""
    root = 0.5**0.5
    (row,) = (
        row
        for _, row in evaluate(ensemble([number(2.0), number(root), number(root)]), None).iterrows()
    )
    assert row.sharpness == pytest.approx(2 * (1 / 4 + 2 + 2))
    assert row.flat_sharpness == pytest.approx(6)
    assert row.spectral_imbalance == pytest.approx(1 / 2)
    assert row.product_spread == pytest.approx(2 * math.sqrt(2) - 1)
    assert row.balance_excess == pytest.approx(4.25 / 3 - 1)
    assert row.excess == pytest.approx(4.25 / 3 - 1)
    assert row.least_excess == pytest.approx(4.25 / 3 - 1)  # (x² + 2/x)/3 − 1 at x = 1/2
    assert row.frobenius_imbalance == pytest.approx(2 * math.sqrt(2))


@pytest.mark.parametrize("factor", [1.25, 0.8])
def test_a_difference_counts_in_both_directions(matrices, monkeypatch, factor):
    right = exactness.dense_hessians
    monkeypatch.setattr(
        exactness, "dense_hessians", lambda *args: (factor * hessian for hessian in right(*args))
    )
    table = evaluate(matrices, None)
    expected = abs(1 / factor - 1)
    assert table.relative_difference.tolist() == pytest.approx([expected] * 2)
    assert table.spectrum_difference.tolist() == pytest.approx([expected] * 2)
    assert table.eigenvector_residual.max() < 1e-14  # the vector is right still
    assert table.oracle_sharpness[0] == pytest.approx(factor * 194 / 9)
    assert table.excess[0] == pytest.approx(factor * 194 / 144 - 1)


def test_a_regression_whose_loss_at_the_minimum_is_not_zero():
    """``X = (2, 0)``, ``Y = (6, 1)``: the solution is 3, the least loss 1, and ``G = 4``."""
    data = regression(
        torch.tensor([[2.0, 0.0]], dtype=torch.float64),
        torch.tensor([[6.0, 1.0]], dtype=torch.float64),
    )
    there = ensemble([number(3.0), number(1.0)], target=data.target[None], root=data.input_root)
    (row,) = (row for _, row in evaluate(there, data).iterrows())
    assert row.loss == pytest.approx(1)
    assert row.sharpness == pytest.approx(2 * 4 * (9 + 1))
    assert row.oracle_sharpness == pytest.approx(80)
    assert row.control_sharpness == pytest.approx(20)  # the closed form without the data
    assert row.frobenius_imbalance == pytest.approx(3)
    unknown = ["flat_sharpness", "spectral_imbalance", "product_spread", "balance_excess"]
    assert row[[*unknown, "least_excess", "excess"]].isna().all()

"""The spectrum at balanced minimizers, whose closed form is known from "Depth, Not Data" (arXiv:2602.00545).

For a target with ``r`` equal nonzero singular values the nonzero eigenvalues are two: a dominant one, ``r²``
times, and ``1/L`` of it, ``r (d_0 − r) + r (d_L − r)`` times. The formulas are derived here once more: at a
balanced minimizer ``R_iᵀR_i`` has the eigenvalue ``s_k^{2(i−1)}`` at ``v_k``, and ``L_iL_iᵀ`` the eigenvalue
``s_j^{2(L−i)}`` at ``u_j``, where ``0⁰ = 1``, so ``u_j v_kᵀ`` has ``2 Σ_i s_j^{2(L−i)} s_k^{2(i−1)}``.
"""

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.oracles import dense_hessian


def oracle_spectrum(factors, target):
    """The nonzero eigenvalues of a Hessian by automatic differentiation, descending."""
    values = torch.linalg.eigvalsh(dense_hessian(factors, target)).flip(0)
    return values[values > 1e-9 * values[0]]


@pytest.mark.parametrize("depth", range(2, 8))
@pytest.mark.parametrize(("rows", "columns", "rank"), [(5, 5, 2), (3, 4, 1), (4, 2, 2)])
def test_the_ratio_is_the_depth_with_the_known_multiplicities(depth, rows, columns, rank):
    target = matrix_with_singular_values(rows, columns, [1.7] * rank, seed=depth)
    factors = dmf.balanced_minimizer(target, [max(rows, columns)] * (depth - 1), 1)
    bulk = 2 * 1.7 ** (2 - 2 / depth)
    expected = [depth * bulk] * rank**2 + [bulk] * (rank * (rows + columns - 2 * rank))
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(oracle_spectrum(factors, target), expected, rtol=1e-10, atol=0)
    found = dmf.hessian_spectrum(factors)[: len(expected)]
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_unequal_singular_values_break_it(depth):
    values = [1.7, 1.2]
    target = matrix_with_singular_values(5, 4, values, seed=depth)
    factors = dmf.balanced_minimizer(target, [5] * (depth - 1), 1)
    s = [value ** (1 / depth) for value in values] + [0.0] * 3

    def eigenvalue(j, k):
        return 2 * sum(
            s[j] ** (2 * (depth - i)) * s[k] ** (2 * (i - 1)) for i in range(1, depth + 1)
        )

    expected = [eigenvalue(j, k) for j in range(5) for k in range(4) if j < 2 or k < 2]
    expected = torch.tensor(sorted(expected, reverse=True), dtype=torch.float64)
    torch.testing.assert_close(oracle_spectrum(factors, target), expected, rtol=1e-9, atol=0)
    found = dmf.hessian_spectrum(factors)[: len(expected)]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    # The four eigenvalues that would be one differ, and so does their ratio to the others.
    assert float(expected[0] / expected[3]) > 1.1
    assert abs(float(expected[0] / expected[-1]) / depth - 1) > 0.1


@pytest.mark.parametrize("seed", range(4))
def test_all_eigenvalues_equal_up_to_rounding(seed):
    """Layers with orthonormal rows or columns; at the second LAPACK finds none of the top two."""
    factors = dmf.standard_start([16, 24, 24, 12], "orthogonal", [306, 1, 0, seed])
    found = dmf.sharpness(factors)
    assert found.value == pytest.approx(6, rel=1e-12)
    assert found.residual < 1e-10


def test_a_minimizer_that_is_not_balanced_has_another_ratio():
    target = matrix_with_singular_values(5, 5, [1.7, 1.7], seed=1)
    factors = dmf.random_minimizer(target, [5, 5], 2)
    spectrum = dmf.hessian_spectrum(factors)
    assert float(spectrum[0] / spectrum[3]) > 1.01

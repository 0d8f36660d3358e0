"""Known answers: closed forms that others have published, against ours."""

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten


@pytest.mark.parametrize("depth", range(2, 8))
@pytest.mark.parametrize(("size", "rank"), [(5, 2), (4, 1), (3, 3)])
def test_large_and_smaller_eigenvalues_are_in_the_ratio_of_the_depth(size, rank, depth):
    """Deng et al. (arXiv:2602.00545): balanced layers, equal singular values, whitened data."""
    target = matrix_with_singular_values(size, size, [1.7] * rank, 0)
    factors = dmf.balanced_minimizer(target, [size] * (depth - 1), 1)
    bulk = 2 * 1.7 ** (2 - 2 / depth)
    expected = [depth * bulk] * rank**2 + [bulk] * (2 * rank * (size - rank))
    assert dmf.hessian_spectrum(factors).tolist() == pytest.approx(expected, rel=1e-12)


def test_unequal_singular_values_break_the_ratio():
    target = matrix_with_singular_values(5, 5, [1.7, 1.3], 0)
    spectrum = dmf.hessian_spectrum(dmf.balanced_minimizer(target, [5, 5], 1))
    assert len(spectrum.round(decimals=9).unique()) > 2


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("pathways", [2, 3])
def test_an_equal_split_among_pathways_lowers_the_flat_value(depth, pathways):
    """Kim and Lee (arXiv:2606.05219): the product is a sum of networks that lie side by side."""
    target = matrix_with_singular_values(2, 3, [2.0, 0.5], 0)
    widths = (3, *[2] * (depth - 1), 2)
    one = flatten(dmf.balanced_minimizer(target / pathways, widths[1:-1], 1))

    def loss(parameters):
        networks = parameters.reshape(pathways, -1)
        return (target - end_to_end(unflatten(networks, widths)).sum(0)).square().sum()

    hessian = torch.func.hessian(loss)(one.repeat(pathways))
    expected = dmf.flat_sharpness(target, depth) * pathways ** (2 / depth - 1)
    assert float(torch.linalg.eigvalsh(hessian)[-1]) == pytest.approx(expected, rel=1e-12)

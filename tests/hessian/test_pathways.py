"""Networks side by side, whose products add up: the sharpness of an equal split."""

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.network.factors import end_to_end, flatten, unflatten


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("pathways", [2, 3])
def test_an_equal_split_among_pathways_lowers_the_flat_value(depth, pathways):
    """A sum of ``P`` operators ``J Jᵀ`` for ``M/P``; Kim and Lee (arXiv:2606.05219) have such a factor."""
    target = matrix_with_singular_values(2, 3, [2.0, 0.5], 0)
    widths = (3, *[2] * (depth - 1), 2)
    one = flatten(dmf.balanced_minimizer(target / pathways, widths[1:-1], 1))

    def loss(parameters):
        networks = parameters.reshape(pathways, -1)
        return (target - end_to_end(unflatten(networks, widths)).sum(0)).square().sum()

    hessian = torch.func.hessian(loss)(one.repeat(pathways))
    expected = dmf.flat_sharpness(target, depth) * pathways ** (2 / depth - 1)
    assert float(torch.linalg.eigvalsh(hessian)[-1]) == pytest.approx(expected, rel=1e-12)

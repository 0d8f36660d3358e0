"""The gap to the second eigenvalue, by every direct method, against all eigenvalues of the dense Hessian."""

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.oracles import dense_spectrum
from tests.helpers import random_point

CASES = [
    ((4, 3), "depth-1"), ((4, 1), "depth-1"), ((1, 3), "depth-1"), ((1, 1), "depth-1"),
    ((4, 6, 5), "depth-2"), ((1, 4, 3), "depth-2"), ((3, 4, 1), "depth-2"), ((1, 2, 1), "depth-2"),
    ((1, 2, 3, 1), "scalar"), ((1, 1), "scalar"),
    ((3, 4, 5, 2), "dense"), ((1, 3, 3, 2), "dense"), ((1, 3, 3, 1), "dense"), ((3, 4, 5, 2), "batched"),
]  # fmt: skip


@pytest.mark.parametrize(("widths", "method"), CASES)
@pytest.mark.parametrize("data", [False, True])
def test_the_gap_of_a_direct_method(widths, method, data):
    members = [random_point(widths, seed) for seed in range(3)]
    root = gaussian_matrix(widths[0], widths[0] + 2, 5) if data else None
    gram = None if root is None else root @ root.mT
    expected = []
    for factors in members:
        product = end_to_end(factors)
        spectrum = dense_spectrum(factors, product if root is None else product @ root, root)
        expected.append(float(spectrum[0] - (spectrum[1] if len(spectrum) > 1 else 0.0)))
        s = dmf.sharpness(factors, gram, method=method)
        assert s.value == pytest.approx(float(spectrum[0]), rel=1e-12)
        assert s.gap == pytest.approx(expected[-1], rel=1e-9, abs=1e-11 * s.value)
    stack = [torch.stack(layer) for layer in zip(*members, strict=True)]
    many = dmf.sharpness(stack, gram, method=method)
    assert many.gap.tolist() == pytest.approx(
        expected, rel=1e-9, abs=1e-11 * float(many.value.max())
    )

"""A regression of data that is not what it must be is refused."""

import numpy as np
import pytest
import torch

from dmf_sharpness.minimizers.targets import gaussian_matrix, regression


def ones(*shape, dtype=torch.float64, device="cpu"):
    return torch.ones(shape, dtype=dtype, device=device)


@pytest.mark.parametrize(
    ("inputs", "outputs", "error"),
    [
        (ones(2, 9, dtype=torch.float32), ones(2, 9), TypeError),
        (ones(2, 9), ones(2, 9, dtype=torch.float32), TypeError),
        (ones(2, 9, dtype=torch.float32), ones(2, 9, dtype=torch.float32), TypeError),
        (np.ones((2, 9)), ones(2, 9), TypeError),
        (ones(2, 9), ones(2, 8), ValueError),
        (ones(2, 0), ones(2, 0), ValueError),
        (ones(9), ones(2, 9), ValueError),
        (ones(2, 9) / 0, ones(2, 9), ValueError),
    ],
)
def test_a_regression_of_data_that_is_not_float64_is_refused(inputs, outputs, error):
    with pytest.raises(error, match=r"^(inputs|outputs): expected .*, got .*$"):
        regression(inputs, outputs)


def test_a_regression_of_tensors_with_graphs_carries_none():
    X = gaussian_matrix(2, 9, 1).requires_grad_()
    reduced = regression(X, 2 * X)
    assert not reduced.target.requires_grad
    assert not reduced.inputs.requires_grad
    assert not reduced.solution.requires_grad

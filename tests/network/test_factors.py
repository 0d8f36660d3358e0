import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness import end_to_end, left_factors, right_factors
from dmf_sharpness.network.factors import check_factors, flatten, unflatten, widths
from tests.helpers import networks, random_point


@given(networks(), st.integers(0, 99))
def test_every_split_of_the_chain_gives_the_product(network, seed):
    factors = random_point(network, seed)
    product = end_to_end(factors)
    for L, W, R in zip(left_factors(factors), factors, right_factors(factors), strict=True):
        torch.testing.assert_close(L @ W @ R, product, rtol=1e-12, atol=1e-12)


@given(networks(), st.integers(0, 99))
def test_unflatten_inverts_flatten(network, seed):
    factors = random_point(network, seed)
    assert widths(factors) == network
    for W, again in zip(factors, unflatten(flatten(factors), network), strict=True):
        assert torch.equal(W, again)


def test_a_batch_is_its_members():
    network = (3, 5, 4, 2)
    members = [random_point(network, seed) for seed in range(4)]
    batch = [torch.stack(layer) for layer in zip(*members, strict=True)]
    for b, factors in enumerate(members):
        torch.testing.assert_close(end_to_end(batch)[b], end_to_end(factors))
        torch.testing.assert_close(left_factors(batch)[0][b], left_factors(factors)[0])
        torch.testing.assert_close(right_factors(batch)[-1][b], right_factors(factors)[-1])


def test_unflatten_gives_views():
    vector = torch.zeros(3, 9, dtype=torch.float64)
    unflatten(vector, (2, 3, 1))[1][0] += 1
    assert vector[0].tolist() == [0.0] * 6 + [1.0] * 3
    assert not vector[1:].any()


W = torch.ones(2, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("factors", "error", "message"),
    [
        ([], ValueError, "at least one matrix, got an empty list"),
        (W, TypeError, "expected a list of tensors, got Tensor"),
        ([W, 3.0], TypeError, "expected W_2 to be a tensor, got float"),
        ([W, W.int()], TypeError, r"expected W_2 in torch.float64, got torch.int32"),
        ([W.float(), W], TypeError, r"expected W_1 in torch.float64, got torch.float32"),
        ([W, W[0]], ValueError, r"expected W_2 to be a matrix, got shape \(2,\)"),
        ([W, W[:, :1]], ValueError, r"expected W_2 of shape \(…, 2\).*got \(2, 1\)"),
        ([W, W.expand(3, 2, 2)], ValueError, "expected W_2"),
        ([W[:0], W], ValueError, "expected positive widths, got W_1"),
        ([W, W * torch.nan], ValueError, "expected finite values, got NaN or Inf in W_2"),
        ([W / 0, W], ValueError, "got NaN or Inf in W_1"),
    ],
)
def test_what_is_no_chain_of_factors_is_refused(factors, error, message):
    with pytest.raises(error, match=message):
        check_factors(factors)

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import dmf_sharpness as dmf
from dmf_sharpness.minimizers.targets import gaussian_matrix, matrix_with_singular_values
from dmf_sharpness.network.balance import frobenius_imbalance, relative_products
from dmf_sharpness.network.factors import end_to_end, flatten
from dmf_sharpness.oracles import dense_spectrum
from tests.helpers import NETWORKS, networks

MAKERS = {
    "balanced": lambda M, hidden, seed: dmf.balanced_minimizer(M, hidden, seed),
    "flat": dmf.flat_minimizer,
    "random": dmf.random_minimizer,
    "prescribed": lambda M, hidden, seed: dmf.minimizer_with_sharpness(
        M, hidden, 1.7 * dmf.flat_sharpness(M, len(hidden) + 1), seed
    ),
}


def relative_residual(factors, target):
    return float((end_to_end(factors) - target).norm() / target.norm())


@pytest.mark.parametrize("kind", MAKERS)
@given(network=networks(), seed=st.integers(0, 999))
def test_every_minimizer_has_zero_loss_and_the_asked_shapes(kind, network, seed):
    target = gaussian_matrix(network[-1], network[0], [seed, 7])
    factors = MAKERS[kind](target, network[1:-1], seed)
    assert [tuple(W.shape) for W in factors] == list(zip(network[1:], network[:-1], strict=True))
    assert relative_residual(factors, target) < 1e-12
    again = MAKERS[kind](target, network[1:-1], seed)
    assert torch.equal(flatten(factors), flatten(again))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("network", [(4, 5, 6, 3), (3, 2, 4)])
def test_rank_deficient_targets(kind, network):
    target = matrix_with_singular_values(network[-1], network[0], [2.0, 0.5], 1)
    assert relative_residual(MAKERS[kind](target, network[1:-1], 2), target) < 1e-12


@given(networks(), st.integers(0, 999))
def test_flat_and_balanced_minimizers_attain_the_lower_bound(network, seed):
    target = gaussian_matrix(network[-1], network[0], [seed, 8])
    least = dmf.flat_sharpness(target, len(network) - 1)
    for kind in ("flat", "balanced"):
        factors = MAKERS[kind](target, network[1:-1], seed)
        assert relative_products(factors).tolist() == pytest.approx([1] * (len(network) - 1))
        # By the oracle: the bound is attained and not undercut.
        assert float(dense_spectrum(factors, target)[0]) == pytest.approx(least, rel=1e-12)


@pytest.mark.parametrize("imbalance", [5.0, 30.0, 100.0])
@given(seed=st.integers(0, 999))
def test_flat_minimizer_of_a_chosen_frobenius_imbalance(imbalance, seed):
    target = gaussian_matrix(4, 3, 1)
    factors = dmf.flat_minimizer(target, [8, 6, 7], seed, frobenius_imbalance=imbalance)
    assert float(frobenius_imbalance(factors)) == pytest.approx(imbalance, rel=1e-12)
    least = dmf.flat_sharpness(target, 4)
    assert float(dense_spectrum(factors, target)[0]) == pytest.approx(least, rel=1e-12)


@given(networks(), st.integers(0, 999), st.floats(0, 3))
def test_prescribed_sharpness_is_met(network, seed, log_ratio):
    target = gaussian_matrix(network[-1], network[0], [seed, 9])
    assume(float(target.norm()) > 1e-3)
    wanted = dmf.flat_sharpness(target, len(network) - 1) * 10**log_ratio
    factors = dmf.minimizer_with_sharpness(target, network[1:-1], wanted, seed)
    assert dmf.sharpness(factors).value == pytest.approx(wanted, rel=2e-12)


@pytest.mark.parametrize("network", [(1, 1, 1), (2, 7, 3), (4, *[4] * 14, 4), (2, *[3] * 39, 2)])
@pytest.mark.parametrize("ratio", [1.0, 1 + 1e-9, 1e3, 1e5])
def test_prescribed_sharpness_at_any_depth_to_rounding(network, ratio):
    target = gaussian_matrix(network[-1], network[0], 3)
    wanted = ratio * dmf.flat_sharpness(target, len(network) - 1)
    for seed in range(3):
        factors = dmf.minimizer_with_sharpness(target, network[1:-1], wanted, seed)
        assert dmf.sharpness(factors).value == pytest.approx(wanted, rel=1e-12)
        assert relative_residual(factors, target) < 1e-12


def test_random_minimizers_are_not_confined_to_a_slice():
    """Their differences span as many dimensions as the set of minimizers has."""
    network, target = (2, 4, 3), gaussian_matrix(3, 2, 0)
    points = torch.stack(
        [flatten(dmf.random_minimizer(target, [4], seed, spread=1e-4)) for seed in range(60)]
    )
    # All close to one orbit of frames; undo the frames by comparing invariants instead: the
    # Gram matrices of the hidden layer's two sides determine a minimizer up to rotation.
    grams = []
    for point in points:
        W_1, W_2 = point[:8].reshape(4, 2), point[8:].reshape(3, 4)
        grams.append(torch.cat([(W_1.mT @ W_1).reshape(-1), (W_2 @ W_2.mT).reshape(-1)]))
    spread = torch.linalg.svdvals(torch.stack(grams) - torch.stack(grams).mean(0))
    # Symmetric 2 × 2 and symmetric 3 × 3: three and six free entries; all of them vary.
    assert int((spread > 1e-6 * spread[0]).sum()) == 9
    assert network[1] >= 3


M = gaussian_matrix(3, 3, 0)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    ("target", "hidden", "error", "message"),
    [
        (M, [4, 2], ValueError, r"widths: expected every hidden width to be at least 3.*\[4, 2\]"),
        (M, [], ValueError, "widths: expected at least one hidden width, got none"),
        (0 * M, [4], ValueError, "target: expected a matrix that is not zero, got rank 0"),
        (M / 0, [4], ValueError, "target: expected finite values, got NaN or Inf"),
        (
            M.float(),
            [4],
            TypeError,
            "target: expected a tensor of torch.float64, got torch.float32",
        ),
        (M[0], [4], ValueError, r"target: expected shape \(…, …\), got \(3,\)"),
        ([[1.0]], [4], TypeError, r"target: expected a tensor, got \[\[1.0\]\]"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(kind, target, hidden, error, message):
    if kind == "prescribed":

        def make(target, hidden, seed):
            return dmf.minimizer_with_sharpness(target, hidden, 100.0, seed)
    else:
        make = MAKERS[kind]
    with pytest.raises(error, match=message):
        make(target, hidden, 0)


def test_sharpness_below_the_flat_limit_is_refused_with_the_limit():
    least = dmf.flat_sharpness(M, 2)
    with pytest.raises(ValueError, match=f"at least λ_flat = {least:.12g}, got 1.0"):
        dmf.minimizer_with_sharpness(M, [4], 1.0, 0)


@pytest.mark.parametrize("wanted", [1e200, float("inf"), float("nan")])
def test_sharpness_out_of_reach_is_refused(wanted):
    with pytest.raises(ValueError, match="sharpness: expected"):
        dmf.minimizer_with_sharpness(M, [4], wanted, 0)


def test_imbalance_that_cannot_be_had_is_refused():
    with pytest.raises(ValueError, match="frobenius_imbalance: expected two neighbouring hidden"):
        dmf.flat_minimizer(M, [8], 0, frobenius_imbalance=5)
    with pytest.raises(ValueError, match="frobenius_imbalance: expected at least"):
        dmf.flat_minimizer(M, [8, 8], 0, frobenius_imbalance=1.0001)


def test_networks_of_the_tests_can_hold_their_targets():
    for network in NETWORKS:
        assert min(network[1:-1]) >= min(network[0], network[-1])

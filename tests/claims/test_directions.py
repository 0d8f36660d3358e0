"""The rows on all eigenvectors and on zeros, by hand."""

from dmf_sharpness.claims import directions, exactness
from tests.claims import by_hand
from tests.claims.by_hand import numbers


def components(growth):
    return by_hand.table(
        minimizer=[0, 0, 0], step_ratio=[1.2] * 3, place=[1, 2, 3], direction_ratio=[1.2, 0.9, 0.2],
        growth=growth,
    ).assign(problem=0)  # fmt: skip


def test_the_factor_of_every_component_is_judged():
    stands = by_hand.rows(directions.rates, components([1.4, 0.8, 0.6]))["C6.directions"]
    assert stands.stands
    assert numbers(stands)[1] == 3
    assert stands.control.value > 0.4
    falls = by_hand.rows(directions.rates, components([1.4, 0.8, 0.601]))["C6.directions"]
    assert falls.verdict == "fails"
    unmeasured = by_hand.rows(directions.rates, components([1.4, 0.8, None]))["C6.directions"]
    assert unmeasured.n == 2


def test_one_zero_too_few_is_a_fault():
    good = {"minimizer": [0, 1], "rank": [1, 2], "zeros": [7, 4], "control_zeros": [6, 1]}
    for predicted, verdict in (([7, 4], "holds"), ([7, 5], "fails"), ([6, 4], "fails")):
        frame = by_hand.table(**good, predicted_zeros=predicted)
        claim = by_hand.rows(exactness.zeros, frame)["C1.zeros"]
        assert claim.verdict == verdict
        assert claim.control.verdict == "fails"

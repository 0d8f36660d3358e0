"""The ledger rows of the studies of the escape: judged from real small studies, and felled by wrong ones."""

import pytest

from dmf_sharpness.claims.judge import judge
from dmf_sharpness.experiments import catalog
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.basic import balanced_minimizer, random_minimizer
from dmf_sharpness.minimizers.paths import minimizer_with_sharpness
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.studies.run import run
from tests.helpers import ensemble_of


def sharper(M, widths, seed, ratio=1.5):
    return minimizer_with_sharpness(M, widths, ratio * flat_sharpness(M, len(widths) + 1), seed)


def slightly_sharper(M, widths, seed):
    return sharper(M, widths, seed, ratio=1.02)


NETWORKS = [(3, 4, 4, 3), (1, 4, 1)]
SPECS = {
    "threshold": StudySpec(steps=9000, momenta=(0.0, 0.5)),
    "timing": StudySpec(
        steps=700, step_ratios=(1.05, 1.3), radii=(0.0, 1e-12, 1e-10, 1e-9, 1e-8, 1e-6)
    ),
    "landing": StudySpec(steps=400_000, step_ratios=(1.001,)),
    "landing_momentum": StudySpec(steps=60_000, step_ratios=(1.0003, 1.001), momenta=(0.3, 0.8)),
    "soft": StudySpec(steps=40_000, step_ratios=(1.001, 1.003), radii=(1e-6,)),
    "starts": StudySpec(steps=4000, step_ratios=(1.1,), radii=(1e-2, 1e-4)),
    "phase": StudySpec(steps=3000, step_ratios=(0.9, 1.2, 2.2), radii=(1e-6,), repeats=2),
    "orbits": StudySpec(steps=12_000, step_ratios=(0.9, 1.02, 1.08), radii=(1e-3,)),
}


@pytest.fixture(scope="module")
def tables():
    sharp = [ensemble_of(k, widths, [sharper, sharper]) for k, widths in enumerate(NETWORKS)]
    # Next to the flat ones the coefficient is large, and the landing is no mirror image.
    networks = [*NETWORKS, (1, 3, 3, 1)]  # the last for the control of the scalars with two layers
    bent = [ensemble_of(k, widths, [slightly_sharper] * 2) for k, widths in enumerate(networks)]
    one = matrix_with_singular_values(3, 3, [10, 9.5, 2], seed=6)
    near_flat = ensemble_of(0, (3, 3, 3, 3), [balanced_minimizer, random_minimizer], [one] * 2)
    others = {"orbits": [near_flat], "landing": bent}
    made = {}
    for name, spec in SPECS.items():
        made[name] = run(name, others.get(name, sharp), spec)
        made[name].insert(0, "experiment", "e")
    return made


def verdicts(tables):
    claims = judge({f"studies/{name}": table for name, table in tables.items()})
    return {claim.id: (claim.verdict, claim.control.verdict) for claim in claims}


def test_every_row_holds_and_its_control_fails(tables):
    result = verdicts({name: table for name, table in tables.items() if name != "soft"})
    assert set(result) == {
        "C6.threshold", "C6.momentum", "C6.direction", "C6.time", "C6.law", "C6.stable",
        "C6.law_momentum", "C6.peak_momentum", "C6.two_layers", "C6.nowhere", "C6.orbits", "C6.balancing",
    }  # fmt: skip
    assert {k: v for k, v in result.items() if v != ("holds", "fails")} == {}


def test_without_soft_directions_the_law_is_no_control(tables):
    # All directions settle here: the row holds, and so must its control, the law itself, to first order.
    table = tables["soft"]
    assert verdicts({"soft": table})["C6.soft"][0] == "holds"
    measured = 1 - table.end_ratio
    assert (((1 - table.settled) / measured - 1).abs() < 0.05).all()


@pytest.mark.parametrize(
    ("study", "column", "value", "fallen"),
    [
        ("threshold", "relative", 1.002, "C6.threshold"),
        ("threshold", "relative", 0.998, "C6.momentum"),
        ("threshold", "relative", float("nan"), "C6.threshold"),
        ("timing", "misalignment", 1e-5, "C6.direction"),
        ("timing", "slope", 1.0, "C6.time"),
        ("landing", "predicted_refined", 0.9, "C6.law"),
        ("landing", "end_ratio", float("nan"), "C6.law"),
        ("landing", "coefficient", -1.0, "C6.two_layers"),
        ("landing", "refined", -1.0, "C6.two_layers"),
        ("landing_momentum", "end_ratio", 0.999, "C6.law_momentum"),
        ("landing_momentum", "end_ratio", float("nan"), "C6.law_momentum"),
        ("landing_momentum", "displaced", float("nan"), "C6.peak_momentum"),
        ("soft", "predicted", 0.5, "C6.soft"),
        ("starts", "escape_time", 1.0, "C6.stable"),
        ("phase", "outcome", "landed", "C6.nowhere"),
        ("orbits", "in_top", 0.999, "C6.orbits"),
        ("orbits", "top_gap", 1e-8, "C6.balancing"),
    ],
)
def test_a_wrong_table_fells_its_row(tables, study, column, value, fallen):
    wrong = tables[study].copy()
    wrong[column] = value
    assert verdicts({study: wrong})[fallen][0] == "fails"


def test_the_mirror_and_the_plain_law_are_felled_where_the_law_with_momentum_holds(tables):
    table = tables["landing_momentum"]
    for wrong in (1 - table.excess, table.predicted_plain):
        assert verdicts({"landing_momentum": table.assign(predicted=wrong)})["C6.law_momentum"] == (
            "fails",
            "fails",
        )
    slower = table.assign(displaced=table.displaced / (1 + table.momentum))
    assert verdicts({"landing_momentum": slower})["C6.peak_momentum"][0] == "fails"


def test_every_run_has_an_outcome(tables):
    for name in ("landing", "landing_momentum", "starts", "phase"):
        assert tables[name].outcome.notna().all()


def test_an_unknown_study_is_refused():
    with pytest.raises(ValueError, match="landing"):
        run("escaping", [], StudySpec(steps=1))
    assert set(SPECS) < set(catalog.studies())

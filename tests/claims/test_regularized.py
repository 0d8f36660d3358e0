"""The rows of the regularized problem: judged from a real small study, and felled by wrong formulas."""

import pandas as pd
import pytest
import torch

from dmf_sharpness.claims.judge import judge
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers import regularized as formulas
from dmf_sharpness.minimizers.basic import balanced_minimizer
from dmf_sharpness.studies import regularized
from dmf_sharpness.studies.run import run
from tests.helpers import ensemble_of

SPEC = StudySpec(regularizations=(0.5, 1.03), repeats=3)
ROWS = {
    "E.spectrum", "E.constant", "E.norms", "E.least", "E.least_attained", "E.collapse",
}  # fmt: skip


def measured():
    networks = [(1, 3, 3, 1), (3, 4, 3, 3)]
    table = run(
        "regularized",
        [ensemble_of(k, widths, [balanced_minimizer]) for k, widths in enumerate(networks)],
        SPEC,
    )
    table.insert(0, "experiment", "e")
    return table


def verdicts(table):
    claims = judge({"studies/regularized": table})
    return {claim.id: (claim.verdict, claim.control.verdict) for claim in claims}


@pytest.fixture(scope="module")
def table():
    return measured()


def test_every_row_holds_and_its_control_fails(table):
    assert verdicts(table) == dict.fromkeys(ROWS, ("holds", "fails"))


def top_value_only(target, depth, regularization):
    top = float(torch.linalg.svdvals(target)[0])
    a = formulas.layer_singular_value(top, depth, regularization)
    return (top - a**depth) ** 2 + regularization * depth * a**2


def without_the_depth(target, depth, regularization):
    total = 0.0
    for value in torch.linalg.svdvals(target).tolist():
        a = formulas.layer_singular_value(value, depth, regularization)
        total += (value - a**depth) ** 2 + regularization * a**2
    return total


def nothing_collapses(target, depth, regularization):
    """The loss of the balanced minimizer of the plain problem, too high."""
    values = torch.linalg.svdvals(target)
    return float(regularization * depth * (values ** (2 / depth)).sum())


@pytest.mark.parametrize(
    ("formula", "fallen"),
    [
        (top_value_only, "E.least_attained"),
        (without_the_depth, "E.least_attained"),
        (nothing_collapses, "E.least"),
        (lambda *given: 0.5 * formulas.least_regularized_loss(*given), "E.least_attained"),
        (lambda *given: 1.001 * formulas.least_regularized_loss(*given), "E.least"),
    ],
)
def test_a_wrong_least_loss_fells_a_row(monkeypatch, formula, fallen):
    monkeypatch.setattr(regularized, "least_regularized_loss", formula)
    assert verdicts(measured())[fallen][0] == "fails"


@pytest.mark.parametrize(
    ("name", "factor", "fallen"),
    [
        ("scalar_spectrum", 1.001, "E.spectrum"),
        ("scalar_spectrum", 0.999, "E.spectrum"),
        ("scalar_spectrum", 1.001, "E.constant"),
        ("layer_singular_value", 1.001, "E.norms"),
        ("layer_singular_value", 0.999, "E.norms"),
        ("collapse_threshold", 1.2, "E.collapse"),
        ("vanishing_threshold", 0.5, "E.collapse"),
    ],
)
def test_a_formula_off_by_a_factor_fells_a_row_or_its_control(monkeypatch, name, factor, fallen):
    right = getattr(formulas, name)
    monkeypatch.setattr(regularized, name, lambda *given: factor * right(*given))
    assert verdicts(measured())[fallen] != ("holds", "fails")


def made_up():
    """A row per source, with numbers of which each column has others."""
    columns = {
        "source": ["closed form", "descent", "descent", "local minimum", "not regularized"],
        "share": [0.5, 0.5, 1.1, 0.5, 0.5],
        "vanishing_share": [1.2] * 5,
        "loss": [1.0, 2.0, 4.0, 3.0, 7.0],
        "least_loss": [1.0, 3.2, 4.1, 4.0, 1.0],
        "least_norm": [1.0, 1.25, 1.5, 1.0, 0.1],
        "most_norm": [1.0, 2.0, 1.75, 1.0, 3.0],
        "predicted_norm": [1.0, 1.5, 2.5, 1.0, 1.0],
        "collapsed": [False, False, True, False, False],
        "spectrum_difference": [1e-3, 2e-3, 4e-3, 9.0, 0.25],
    }
    places = {"experiment": "e", "network": [0, 1, 1, 3, 4], "problem": 0, "depth": 3}
    return pd.DataFrame(columns).assign(**places)


def test_the_numbers_of_every_row_and_control():
    claims = {claim.id: claim for claim in judge({"studies/regularized": made_up()})}
    found = {name: (claim.value, claim.control.value, claim.n) for name, claim in claims.items()}
    assert found == {
        "E.spectrum": (1e-3, 0.25, 1),
        "E.constant": (4e-3, 0.25, 2),
        "E.norms": (1.0, 2.0, 2),  # the second is predicted 1 above its least, the control 2 below
        "E.least": (pytest.approx(0.375), pytest.approx(1 - 2 / 4.1), 3),
        "E.least_attained": (pytest.approx(0.375), pytest.approx(0.25), 2),
        "E.collapse": (0.0, 1.0, 2),
    }


@pytest.mark.parametrize(
    ("changes", "value"),
    [({"share": 0.5}, 1.0), ({"collapsed": True}, 1.0), ({"collapsed": False}, 1.0)],
)
def test_collapse_on_the_wrong_side_fells_the_row(changes, value):
    rows = made_up().assign(**changes)
    claims = {claim.id: claim for claim in judge({"studies/regularized": rows})}
    assert claims["E.collapse"].value == value


def test_points_that_are_no_scalars_are_not_judged_by_the_scalar_spectrum(table):
    claims = {claim.id: claim for claim in judge({"studies/regularized": table})}
    scalars = table[table.depth.eq(3) & table.spectrum_difference.notna()]
    assert set(scalars.network) == {0}
    assert claims["E.spectrum"].n == (scalars.source == "closed form").sum()
    assert claims["E.constant"].n == (scalars.source == "descent").sum()

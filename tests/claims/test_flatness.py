"""The ledger rows of the studies of flatness: judged from real small studies, and felled by wrong ones."""

from functools import partial

import pandas as pd
import pytest

from dmf_sharpness.claims.judge import judge
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.minimizers.basic import random_minimizer
from dmf_sharpness.minimizers.flat import equal_flat_minimizer, unequal_flat_minimizer
from dmf_sharpness.minimizers.targets import matrix_with_singular_values
from dmf_sharpness.studies.run import run
from tests.helpers import ensemble_of

RANDOM, FLAT, UNEQUAL = random_minimizer, equal_flat_minimizer, unequal_flat_minimizer
FAR = partial(random_minimizer, spread=1.0)
STUDIES = {
    "necessity": (
        [(3, 4, 3), (1, 3, 3, 1)],
        [RANDOM, RANDOM],
        StudySpec(steps=300, product_ratios=(0.9, 2.0)),
    ),
    "paths": (
        [(3, 4, 4, 2), (1, 3, 3, 1)],
        [FLAT],
        StudySpec(points=5, path_length=1.0, repeats=2),
    ),
    "flattest": (
        [(3, 4, 3), (1, 3, 3, 1), (3, 4, 4, 4, 4, 2)],
        [FAR, FAR, FAR],
        StudySpec(steps=300),
    ),
    "convexity": ([(3, 4, 3), (2, 3, 3, 2)], [RANDOM, FAR], StudySpec(steps=300)),
    "unbalanced": (
        [(2, 2, 3, 2), (3, 2, 2, 3), (2, 2, 3, 3), (2, 3, 3, 2, 2)],
        [RANDOM, RANDOM],
        StudySpec(steps=120, product_ratios=(1.05,)),
    ),
    "regularized": (
        [(1, 3, 3, 1), (3, 4, 2)],
        [RANDOM],
        StudySpec(repeats=3, regularizations=(0.5, 1.05)),
    ),
}


def of_rank_2(widths, count):
    """Targets of rank 2, the first with equal singular values, the second with unequal ones."""
    spectra = [[1.5, 1.5], [1.5, 0.6]][:count]
    return [
        matrix_with_singular_values(widths[-1], widths[0], values, k)
        for k, values in enumerate(spectra)
    ]


TARGETS = {"unbalanced": of_rank_2}
"""The targets of a study; the others have Gaussian ones."""


@pytest.fixture(scope="module")
def tables():
    made = {}
    for name, (networks, makers, spec) in STUDIES.items():
        made[name] = run(
            name,
            [
                ensemble_of(
                    k, widths, makers, TARGETS.get(name, lambda *_: ())(widths, len(makers))
                )
                for k, widths in enumerate(networks)
            ],
            spec,
        )
    # The controls of the searches are searches on other networks, from flat minimizers with unequal products.
    matrices = [ensemble_of(2, (2, 3, 4, 3, 2), [UNEQUAL, UNEQUAL])]
    searched = run("necessity", matrices, StudySpec(steps=300, product_ratios=(1.2,)))
    made["necessity"] = pd.concat([made["necessity"], searched], ignore_index=True)
    for table in made.values():
        table.insert(0, "experiment", "e")
    return made


def verdicts(tables):
    claims = judge({f"studies/{name}": table for name, table in tables.items()})
    return {claim.id: (claim.verdict, claim.control.verdict) for claim in claims}


def test_every_row_holds_and_its_control_fails(tables):
    result = verdicts(tables)
    assert set(result) == {
        "C1.paths", "C3.search", "C3.tight", "C4.search", "C4.tight",
        "C2.bound", "C2.attained", "C2.convex", "C2.convex_attained", "C5.path", "C5.spectral",
        "C2.necessary", "C2.not_necessary", "C2.forced",
        "E.spectrum", "E.constant", "E.norms", "E.least", "E.least_attained", "E.collapse",
    }  # fmt: skip
    assert set(result.values()) == {("holds", "fails")}


@pytest.mark.parametrize(
    ("study", "column", "value", "fallen"),
    [
        ("necessity", "found_excess", -1.0, "C3.search"),
        ("necessity", "end_excess", 9.0, "C3.tight"),
        ("unbalanced", "found_excess", 0.0, "C2.necessary"),
        ("unbalanced", "end_excess", 0.1, "C2.forced"),
        ("unbalanced", "unbalanced_excess", 1e-9, "C2.not_necessary"),
        ("unbalanced", "product", 1.001, "C2.not_necessary"),
        ("paths", "sharpness", 1.0, "C1.paths"),
        ("flattest", "least_ratio", 1 - 1e-9, "C2.bound"),
        ("convexity", "defect", 1e-6, "C2.convex"),
        ("convexity", "defect", -1e-3, "C2.convex_attained"),
        ("flattest", "end_ratio", 1.01, "C2.attained"),
        ("flattest", "imbalance", 1e-3, "C5.spectral"),
        ("flattest", "path_defect", 1e-3, "C5.path"),
        ("regularized", "spectrum_difference", 1e-8, "E.spectrum"),
        ("regularized", "most_norm", 99.0, "E.norms"),
        ("regularized", "loss", 0.0, "E.least"),
        ("regularized", "collapsed", True, "E.collapse"),
        ("regularized", "spectrum_difference", float("nan"), "E.constant"),
    ],
)
def test_a_wrong_table_fells_its_row(tables, study, column, value, fallen):
    wrong = tables[study].copy()
    wrong[column] = value
    assert verdicts({study: wrong})[fallen][0] == "fails"


def test_a_regularized_study_has_ends_of_every_source(tables):
    table = tables["regularized"]
    assert set(table.source) >= {"closed form", "descent", "not regularized"}
    assert pd.notna(table.spectrum_difference[table.widths == "1-3-3-1"]).all()

import json

import pandas as pd
import pytest

from dmf_sharpness.claims import ledger
from dmf_sharpness.claims.judge import judge


def sharpness_rows(**changes):
    """A flat depth-2 minimizer, a sharp one, digits, and the controls of ``boundary``."""
    base = {
        "experiment": "e",
        "network": 0,
        "problem": 0,
        "kind": "random",
        "widths": "2-3-2",
        "depth": 2,
        "sharpness": 4.0,
        "oracle_sharpness": 4.0,
        "flat_sharpness": 4.0,
        "control_sharpness": 4.0,
        "relative_difference": 1e-15,
        "spectrum_difference": 1e-14,
        "eigenvector_residual": 1e-14,
        "control_spectrum_difference": 0.5,
        "control_eigenvector_residual": 0.5,
        "spectral_imbalance": 0.0,
        "product_spread": 0.0,
        "largest_product": 1.0,
        "balance_excess": 0.0,
        "least_excess": 0.0,
        "excess": 0.0,
        "frobenius_imbalance": 2.0,
    }
    sharp = {
        "sharpness": 8.0,
        "oracle_sharpness": 8.0,
        "spectral_imbalance": 0.5,
        "product_spread": 1.0,
        "largest_product": 3**0.5,
        "balance_excess": 1.0,
        "least_excess": 0.4,
        "excess": 1.0,
    }
    wrong = sharp | {
        "sharpness": 9.0,
        "oracle_sharpness": 9.0,
        "product_spread": 0.0,
        "largest_product": 1.5,
        "kind": "explicit",
        "excess": 1.25,
        "balance_excess": 1.25,
    }
    necessity = {"widths": "2-2-2-2", "depth": 3, "kind": "explicit", "least_excess": 0.1}
    necessity |= {"spectral_imbalance": 0.4, "product_spread": 0.4, "balance_excess": 0.3}
    rows = [
        base,
        base | sharp,
        base | {"widths": "1-2-2-1", "depth": 3},
        base | sharp | {"widths": "1-2-2-1", "depth": 3},
        base | wrong,
        base | wrong | {"widths": "1-2-2-1", "depth": 3},
        base | necessity,
        base | {"experiment": "digits", "flat_sharpness": float("nan"), "control_sharpness": 1.0},
    ]
    table = pd.DataFrame(rows)
    for column, value in changes.items():
        table.loc[0, column] = value
    return table


def escape_rows(**changes):
    base = {
        "experiment": "e",
        "network": 0,
        "problem": 0,
        "radius": 1e-9,
        "sharpness": 4.0,
        "flat_sharpness": 2.0,
        "end_ratio": float("nan"),
    }
    stable = {"step_ratio": 0.9, "step_size": 0.45, "escaped": False, "outcome": "returned"}
    stable |= {"growth": 0.8, "predicted_growth": 0.8}
    unstable = {"step_ratio": 1.1, "step_size": 0.55, "escaped": True, "outcome": "landed"}
    unstable |= {"growth": 1.2, "predicted_growth": 1.2, "end_ratio": 0.95}
    table = pd.DataFrame([base | unstable, base | stable])
    for column, value in changes.items():
        table.loc[0, column] = value
    return table


def judged(sharpness, escape, **others):
    return judge({"sharpness": sharpness, "escape": escape, **others})


def verdicts(sharpness, escape):
    return {claim.id: claim.verdict for claim in judged(sharpness, escape)}


def test_good_tables_hold_and_every_control_fails():
    rows = judged(sharpness_rows(), escape_rows())
    assert {claim.id for claim in rows if not claim.stands} == set()
    assert {claim.id.split(".")[0] for claim in rows} == {"C1", "C2", "C3", "C4", "C5", "C6"}
    assert all(claim.n > 0 for claim in rows)


@pytest.mark.parametrize(
    ("changes", "fallen"),
    [
        ({"sharpness": 4 + 1e-11}, {"C1.sharpness"}),
        ({"sharpness": 4 - 1e-11}, {"C1.sharpness"}),
        ({"sharpness": float("nan")}, {"C1.sharpness"}),
        ({"spectrum_difference": 1e-9}, {"C1.spectrum"}),
        ({"eigenvector_residual": 1e-9}, {"C1.eigenvector"}),
        ({"excess": 1e-9}, {"C2", "C3.sufficient", "C3.exact", "C5.frobenius"}),
        ({"least_excess": 1e-9}, {"C3.necessary"}),
    ],
)
def test_a_wrong_minimizer_fells_its_claims_and_no_others(changes, fallen):
    result = verdicts(sharpness_rows(**changes), escape_rows())
    assert fallen <= {name for name, verdict in result.items() if verdict == "fails"}
    # Claims about other statistics stand; those left without a sample may fall too.
    assert {name for name in result if name.startswith("C6")} & {
        name for name, verdict in result.items() if verdict == "fails"
    } == set()


@pytest.mark.parametrize(
    ("changes", "fallen"),
    [
        ({"escaped": False, "outcome": "undecided"}, "C6.escape"),
        ({"growth": 1.2003}, "C6.rate"),
        ({"end_ratio": 1.01}, "C6.flatter"),
    ],
)
def test_a_wrong_run_fells_its_claim(changes, fallen):
    assert verdicts(sharpness_rows(), escape_rows(**changes))[fallen] == "fails"


def test_without_a_sample_no_claim_holds_and_no_control_fails():
    rows = judged(sharpness_rows().iloc[:1], escape_rows().iloc[:1])
    by_id = {claim.id: claim for claim in rows}
    assert by_id["C1.data"].n == 0
    assert by_id["C1.data"].verdict == "fails"
    assert by_id["C6.escape"].control.verdict == "holds"
    assert not by_id["C6.escape"].stands


def test_the_ledger_is_json_with_the_promised_keys():
    rows = ledger.to_json(judged(sharpness_rows().iloc[:1], escape_rows()))
    again = json.loads(json.dumps(rows, allow_nan=False))
    keys = {
        "id",
        "origin",
        "claim",
        "statistic",
        "value",
        "tolerance",
        "n",
        "problems",
        "experiment",
        "verdict",
        "artifacts",
        "sample",
    }
    for row in again:
        assert set(row) == keys | {"control"}
        assert set(row["control"]) == {"description", "value", "share", "n", "verdict", "sample"}
        assert row["origin"] in {"paper", "ours"}
        assert row["verdict"] in {"holds", "fails"}


def test_markdown_and_text_list_every_claim_once():
    rows = ledger.to_json(judged(sharpness_rows(), escape_rows()))
    markdown, text = ledger.to_markdown(rows), ledger.to_text(rows)
    assert len(markdown.splitlines()) == len(rows) + 2
    # Every row has the header's number of cells: bars inside formulas are escaped.
    cells = {len(line.replace("\\|", "").split("|")) for line in markdown.splitlines()}
    assert len(cells) == 1
    assert text.count("✓") == len(rows)
    assert ledger.summary(rows).startswith(f"All {len(rows)} claims hold")
    rows[0]["verdict"] = "fails"
    assert "✗" in ledger.to_text(rows)
    assert ledger.summary(rows) == f"These claims fail: {rows[0]['id']}."


def bottleneck_rows(**changes):
    """Minimizers where the closed form is exact, too low and too high, at the bounds, and flat ones."""
    base = {
        "experiment": "b",
        "network": 0,
        "problem": 0,
        "depth": 4,
        "kind": "bottlenecked",
        "residual_ratio": 0.5,
        "sharpness": 4.0,
        "oracle_sharpness": 4.0,
        "flat_sharpness": 3.0,
        "spectral_imbalance": 1.0,
        "spectrum_difference": 1e-15,
        "control_spectrum_difference": 0.1,
    }
    exact = {"tight_ends": 2, "expression": 4.0}
    low = {"tight_ends": 1, "expression": 3.9}
    high = {"tight_ends": 0, "expression": 4.1}
    flat = {"tight_ends": 0, "expression": 4.0, "flat_sharpness": 4.0, "spectral_imbalance": 0.0}
    upper = {"kind": "underestimated", "tight_ends": 1, "expression": 4 / 1.5}
    lower = {"kind": "overestimated", "tight_ends": 0, "expression": 4 * 2 / 1.5}
    flatter = flat | {
        "problem": 1, "expression": 3.0, "flat_sharpness": 3.0, "sharpness": 3.0, "oracle_sharpness": 3.0,
    }  # fmt: skip
    rows = (exact, low, high, flat, flatter, upper, lower)
    return pd.DataFrame([base | row | changes for row in rows])


BOTTLENECK = [
    "C1.bottleneck", "C1.bottleneck_spectrum", "C1.bottleneck_exact", "C1.bottleneck_below",
    "C1.bottleneck_bounds", "C1.bottleneck_high", "C1.bottleneck_low", "C2.bottleneck",
    "C2.bottleneck_bound",
]  # fmt: skip


def test_bottleneck_rows_are_judged_only_where_there_are_some():
    without = judged(sharpness_rows(), escape_rows())
    assert not [claim for claim in without if "bottleneck" in claim.id]
    rows = judged(sharpness_rows(), escape_rows(), bottleneck=bottleneck_rows())
    narrow = {claim.id: claim for claim in rows if "bottleneck" in claim.id}
    assert list(narrow) == BOTTLENECK
    assert all(claim.stands for claim in narrow.values())
    wrong = judged(sharpness_rows(), escape_rows(), bottleneck=bottleneck_rows(sharpness=4.1))
    assert next(c for c in wrong if c.id == "C1.bottleneck").verdict == "fails"


def test_bottlenecks_without_the_families_and_flat_ones_are_judged_by_the_other_rows():
    random = bottleneck_rows()[:3]
    rows = judged(sharpness_rows(), escape_rows(), bottleneck=random)
    assert [claim.id for claim in rows if "bottleneck" in claim.id] == BOTTLENECK[:3]


@pytest.mark.parametrize(
    ("kind", "change", "fallen"),
    [
        ("underestimated", {"expression": 4 / 1.51}, "C1.bottleneck_bounds"),
        ("underestimated", {"expression": 4 / 1.49}, "C1.bottleneck_high"),
        ("overestimated", {"expression": 4 * 2.01 / 1.5}, "C1.bottleneck_bounds"),
        ("overestimated", {"expression": 4 * 1.99 / 1.5}, "C1.bottleneck_low"),
        ("underestimated", {"flat_sharpness": 4.1}, "C2.bottleneck_bound"),
    ],
)
def test_a_bound_that_is_broken_or_not_attained_is_seen(kind, change, fallen):
    table = bottleneck_rows()
    for column, value in change.items():
        table.loc[table.kind == kind, column] = value
    rows = judged(sharpness_rows(), escape_rows(), bottleneck=table)
    assert [claim.id for claim in rows if claim.verdict == "fails"] == [fallen]


def test_a_hundred_is_judged_only_where_norms_are_so_far_apart():
    near, far = sharpness_rows(), sharpness_rows(frobenius_imbalance=100.0)
    assert not [claim for claim in judged(near, escape_rows()) if claim.id == "C5.hundred"]
    (row,) = [claim for claim in judged(far, escape_rows()) if claim.id == "C5.hundred"]
    assert row.stands
    assert row.n == 1
    sharp = sharpness_rows(frobenius_imbalance=100.0, excess=1e-9)
    (row,) = [claim for claim in judged(sharp, escape_rows()) if claim.id == "C5.hundred"]
    assert row.verdict == "fails"


@pytest.mark.parametrize(
    ("ratios", "verdict", "control"),
    [
        ([1.49, 0.76], "holds", "fails"),
        ([1.51, 0.76], "fails", "fails"),
        ([1.49, 0.74], "fails", "fails"),
        ([1.1, 0.95], "holds", "holds"),
    ],
)
def test_searches_behind_a_bottleneck(ratios, verdict, control):
    """With ``q = 0.5`` the bounds are 1.5 and 0.75; a search that stays near 1 tests nothing."""
    table = pd.DataFrame(
        {
            "experiment": "s",
            "network": 0,
            "problem": 0,
            "largest": [True, False],
            "residual_ratio": 0.5,
            "end_ratio": ratios,
        }
    )
    (row,) = judge({"studies/bottleneck_search": table})
    assert (row.verdict, row.control.verdict) == (verdict, control)

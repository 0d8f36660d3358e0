"""C6, eigenvector by eigenvector: every component of a displacement near a minimizer."""

from collections.abc import Iterator

import pandas as pd

from dmf_sharpness.claims.claim import Claim, judged, judged_from
from dmf_sharpness.claims.tolerances import RATE


@judged_from("studies/projections")
def rates(table: pd.DataFrame) -> Iterator[Claim]:
    """The growth or decay of all components per step, while the displacement is small."""
    rows = table.drop_duplicates(["experiment", "network", "minimizer", "step_ratio", "place"])
    rows = rows[rows.growth.notna()]
    others = rows[rows.place > 1]
    yield judged(
        "C6.directions",
        origin="ours",
        claim=(
            "The displacement along every Hessian eigenvector v_k, stable or not, and in the null space, "
            f"changes by |1 − ηλ_k| per step, ηλ_k/2 up to {rows.direction_ratio.max():.2g}, while the "
            "square of the whole displacement is negligible."
        ),
        statistic="relative error of the measured factor",
        tolerance=RATE,
        rows=rows,
        values=(rows.growth / (1 - 2 * rows.direction_ratio).abs() - 1).abs(),
        control="the factor |1 − ηλ_max|, for the other eigenvectors",
        control_values=(others.growth / (1 - 2 * others.step_ratio).abs() - 1).abs(),
    )

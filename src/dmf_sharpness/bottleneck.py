"""The exact expression where it stops being exact: behind a bottleneck, against the true sharpness."""

import pandas as pd
from torch import Tensor

from dmf_sharpness.any_point import sharpness_at
from dmf_sharpness.ensembles import Ensemble
from dmf_sharpness.loss import loss
from dmf_sharpness.oracles import dense_spectrum
from dmf_sharpness.sharpness import sharpness


def measure(ensemble: Ensemble) -> pd.DataFrame:
    """One row per bottlenecked minimizer of matrix factorization.

    ``expression`` is the exact expression of minimizers without a residual, ``sharpness`` the largest
    eigenvalue with the residual in the Hessian-vector product, ``oracle_sharpness`` the dense autograd
    Hessian's. ``tight_ends`` says whether the first and the last hidden width are the bottleneck's: then
    the residual, orthogonal to the rows and columns of the product, meets ``L_j`` of the last layer
    and ``R_i`` of the first only, and couples just these two in directions of no Gauss–Newton curvature
    beyond theirs. Elsewhere the expression may be too small, and from depth 4 on too large.
    """
    expression = sharpness(ensemble.factors)
    losses = loss(ensemble.factors, ensemble.target)
    assert isinstance(expression.value, Tensor)
    hidden = ensemble.widths[1:-1]
    rows = []
    for b in range(len(ensemble.kinds)):
        factors, target = [W[b] for W in ensemble.factors], ensemble.target[b]
        true = sharpness_at(factors, target)
        rows.append(
            {
                "network": ensemble.network,
                "minimizer": b,
                "widths": "-".join(map(str, ensemble.widths)),
                "depth": ensemble.depth,
                "bottleneck": min(hidden),
                "tight_ends": hidden[0] == hidden[-1] == min(hidden),
                "loss": float(losses[b]),
                "expression": float(expression.value[b]),
                "sharpness": true.value,
                "residual": true.residual,
                "gradient_norm": true.gradient_norm,
                "oracle_sharpness": float(dense_spectrum(factors, target)[0]),
            }
        )
    table = pd.DataFrame(rows)
    table["excess"] = table.sharpness / table.expression - 1
    return table

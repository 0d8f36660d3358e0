"""The exact expression where it stops being exact: behind a bottleneck, against the true sharpness.

A global minimum whose narrowest layer has width ``k`` below the target's rank has a product ``M_k``, the
best approximation of rank ``k``, and a residual ``E`` of norm ``σ_{k+1}``, orthogonal to the columns (``P``
projects on them) and rows (``Q``) of ``M_k``.

If the first and the last hidden width are ``k``, the expression is still exact. Every ``L_j`` but ``L_L = I``
has its columns in ``P``, every ``R_i`` but ``R_1 = I`` its rows in ``Q``, so ``E`` meets only
``⟨E, U_L C U_1⟩``, ``C = W_{L-1:2}``, and there only ``(I−P)U_L`` and ``U_1(I−Q)``. These two form a block
of the Hessian of their own, with eigenvalues at most twice those of ``[[r², c], [c, l²]]``, ``r = ‖R_L‖``,
``l = ‖L_1‖``, ``c = σ_{k+1} ‖C‖``. The other block is that of the expression, at least ``2(r² + l²)``:
test it on the top vectors. That is the larger one because ``c ≤ r l``: with the top singular
pair ``C p = s q``, ``σ_k ≤ s ‖W_L q‖ ‖W_1ᵀ p‖``, and ``r l ≥ s² ‖W_L q‖ ‖W_1ᵀ p‖``.

Otherwise ``E`` meets layers that the expression sees too, and the expression may be too small or, from
depth 4 on, too large.
"""

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
    Hessian's. ``tight_ends`` says whether the first and the last hidden width are the bottleneck's.
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

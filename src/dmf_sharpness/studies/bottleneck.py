"""The closed form behind a bottleneck, where it need not be exact, against the true sharpness.

A global minimum whose narrowest layer has width ``k`` below the target's rank has a product ``M_k``, a
best approximation of rank ``k``, and a residual ``E = M − M_k`` of norm ``σ_{k+1} ≤ σ_k``. ``E``
vanishes on the column space of ``M_k`` (projector ``P``, from the left) and on its row space (``Q``,
from the right). The Hessian's quadratic form is ``2 ‖J U‖² − 4 Σ_{i<j} ⟨E, L_j U_j W_{j-1:i+1} U_i
R_i⟩``.

**If the first and the last hidden width are** ``k``, **the expression is exact.** (Ours; other layers
may be wider.) Proof. ``W_L`` has ``k`` columns and ``M_k`` rank ``k``, so the columns of ``W_L``, and of
every ``L_j`` with ``j < L``, are in the column space of ``M_k``; likewise the rows of ``R_i``, ``i >
1``. So ``E`` meets only ``⟨E, a C b⟩`` with ``C = W_{L-1:2}``, ``a = (I−P) U_L``, ``b = U_1 (I−Q)``. In
``J U`` the terms of ``a``, of ``b`` and of all other directions are in orthogonal subspaces. The Hessian
is therefore block diagonal:

- On ``(a, b)`` the form is ``2 ‖a R_L‖² + 2 ‖L_1 b‖² − 4 ⟨E, a C b⟩``, so its eigenvalues are at most
  twice those of ``[[r², c], [c, l²]]``, ``r = ‖R_L‖``, ``l = ‖L_1‖``, ``c = σ_{k+1} ‖C‖``.
- On all other directions it is ``2 ‖J U‖²``. With ``u`` the top left singular vector of ``L_1`` and
  ``v`` the top right one of ``R_L``, the terms ``i = 1`` and ``i = L`` of ``2 Σ_i ‖L_iᵀ u‖² ‖R_i v‖²``
  alone give ``2 (l² + r²)``.

The second block has the larger eigenvalue if ``c ≤ r l``, for then the matrix is positive semidefinite
and its largest eigenvalue at most its trace. Let ``C p = s q`` with ``s = ‖C‖`` and unit ``p``, ``q``.
The unit vector ``x`` along ``W_1⁺ p`` is in the row space of ``M_k``, where no vector shrinks below
``σ_k``, so ``σ_k ≤ ‖M_k x‖ = s ‖W_L q‖ / ‖W_1⁺ p‖ ≤ s ‖W_L q‖ ‖W_1ᵀ p‖``, as ``1 = pᵀ W_1 W_1⁺ p ≤ ‖W_1ᵀ
p‖ ‖W_1⁺ p‖``. Finally ``l ≥ ‖W_L C p‖ = s ‖W_L q‖`` and ``r ≥ ‖qᵀ C W_1‖ = s ‖W_1ᵀ p‖``: together ``c ≤
s σ_k ≤ r l``. The expression is the largest eigenvalue without ``E``, of the second block or ``2 r²`` or
``2 l²``: the same. ∎

Otherwise ``E`` meets layers that the expression sees too, and the expression can be too small or, as
measured from depth 4 on, too large.
"""

import pandas as pd
import torch

from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.hessian.any_point import sharpness_at
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.network.loss import loss
from dmf_sharpness.oracles import dense_spectrum


def measure(ensemble: Ensemble) -> pd.DataFrame:
    """One row per bottlenecked minimizer of matrix factorization.

    ``expression`` is the closed form, which is exact at minimizers without a residual. ``sharpness`` is the
    largest eigenvalue with the residual in the Hessian-vector product, ``oracle_sharpness`` that of the
    dense autograd Hessian. ``tight_ends`` says whether both the first and the last hidden width equal the
    bottleneck's.
    """
    expression = sharpness(ensemble.factors)
    losses = loss(ensemble.factors, ensemble.problem)
    closed_form = torch.as_tensor(expression.value)
    hidden = ensemble.widths[1:-1]
    rows = []
    for b in range(len(ensemble.kinds)):
        factors, target = ensemble.one(b), ensemble.target[b]
        true = sharpness_at(factors, target)
        rows.append(
            {
                "bottleneck": min(hidden),
                "tight_ends": hidden[0] == hidden[-1] == min(hidden),
                "loss": float(losses[b]),
                "expression": float(closed_form[b]),
                "sharpness": true.value,
                "residual": true.residual,
                "gradient_norm": true.gradient_norm,
                "oracle_sharpness": float(dense_spectrum(factors, target)[0]),
            }
        )
    table = pd.concat([ensemble.rows(range(len(rows))), pd.DataFrame(rows)], axis=1)
    table["excess"] = table.sharpness / table.expression - 1
    return table

"""Minimize the sharpness from every minimizer: how low does it get, and what is there."""

import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.ensembles import Ensemble
from dmf_sharpness.experiments import StudySpec
from dmf_sharpness.factors import Factors, end_to_end
from dmf_sharpness.flatness import flat_sharpness, relative_products
from dmf_sharpness.flattest import minimize_sharpness
from dmf_sharpness.studies.common import described


def path_defect(factors: Factors) -> float:
    """How far the layers are from passing the target's top singular vector on, ``σ_1^{1/L}`` a layer.

    At a flat minimizer adjacent layers share a singular vector: with ``q_0 = v`` and unit
    ``q_i ∝ W_i q_{i-1}``, each ``(q_{i-1}, q_i)`` is a singular pair of ``W_i`` with singular value
    ``s = ‖M‖₂^{1/L}``. For ``λ_max ≥ 2 Σ_i ‖L_iᵀu‖²‖R_i v‖² ≥ λ_flat`` (test ``J Jᵀ`` on ``u vᵀ``), and
    equality asks that ``L_iᵀu`` and ``R_{i+1}v`` be parallel, with ``‖L_iᵀu‖‖R_{i+1}v‖ = ‖M‖₂`` and
    ``‖L_iᵀu‖‖R_i v‖ = ‖M‖₂^{1−1/L}``.

    Returns:
        The largest of ``‖W_i q_{i-1} − s q_i‖ / s`` and ``‖W_iᵀ q_i − s q_{i-1}‖ / s``.
    """
    product = end_to_end(factors)
    _, values, Vt = torch.linalg.svd(product)
    s, q = float(values[0]) ** (1 / len(factors)), Vt[0]
    defects: list[Tensor] = []
    for W in factors:
        image = W @ q
        q_next = image / torch.linalg.vector_norm(image)
        defects.append(torch.linalg.vector_norm(image - s * q_next) / s)
        defects.append(torch.linalg.vector_norm(W.mT @ q_next - s * q) / s)
        q = q_next
    return float(torch.stack(defects).max())


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """BFGS from every minimizer, ``spec.steps`` iterations at most.

    Returns:
        A row per minimizer: ``start_ratio``, ``end_ratio`` and ``least_ratio`` (``λ_max/λ_flat`` at the
        start, at the end, and the least on the way), ``residual`` (relative, of the end's product),
        ``evaluations``, ``imbalance`` (of the end's spectral products), ``path_defect`` and
        ``start_path_defect``.
    """
    index = torch.arange(len(ensemble.kinds)).numpy()
    rows = []
    for b in index:
        factors, target = [W[b] for W in ensemble.factors], ensemble.target[b]
        least = flat_sharpness(target, ensemble.depth)
        search = minimize_sharpness(factors, spec.steps)
        missed = torch.linalg.matrix_norm(end_to_end(search.factors) - target)
        rows.append(
            {
                "start_ratio": search.start / least,
                "end_ratio": search.value / least,
                "least_ratio": search.least / least,
                "residual": float(missed / torch.linalg.matrix_norm(target)),
                "evaluations": search.evaluations,
                "imbalance": float((relative_products(search.factors) - 1).abs().max()),
                "path_defect": path_defect(search.factors),
                "start_path_defect": path_defect(factors),
            }
        )
    return pd.concat([described(ensemble, index), pd.DataFrame(rows)], axis=1)

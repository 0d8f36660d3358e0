"""All Hessian eigenvalues at minimizers, zeros included, in closed form and of the dense Hessian."""

import numpy as np
import pandas as pd
import torch

from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.spectrum import hessian_spectrum
from dmf_sharpness.network.tangent import nonzero_eigenvalues, ranks_of_terms
from dmf_sharpness.oracles import dense_spectrum

STUDY = StudyOptions()

COUNTED = 1e-10
"""Eigenvalues of the dense Hessian above this fraction of the largest one are counted as nonzero. Rounding
leaves about 1e-15 of it in the place of a zero."""


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """The whole spectrum of every minimizer, and how many of its eigenvalues are zero.

    Returns:
        A row per minimizer and eigenvalue, in descending order: ``place`` (from 1 on), ``dense`` (of the
        dense autograd Hessian) and ``closed_form`` (0 beyond its last eigenvalue), both over ``λ_max``; and
        the same in all rows of a minimizer: ``rank`` of the target, ``zeros`` (counted in ``dense``),
        ``predicted_zeros`` (from ranks alone) and ``control_zeros`` (if the terms of the operator did not
        overlap).
    """
    tables = []
    for b in range(len(ensemble.kinds)):
        factors, target = ensemble.one(b), ensemble.target[b]
        dense = dense_spectrum(factors, target)
        top = float(dense[0])
        closed = hessian_spectrum(factors)
        lefts, rights = ranks_of_terms(factors)
        terms = sum(left * right for left, right in zip(lefts, rights, strict=True))
        tables.append(
            ensemble.rows(np.full(len(dense), b)).assign(
                rank=int(torch.linalg.matrix_rank(target)),
                place=np.arange(1, len(dense) + 1),
                dense=dense.numpy() / top,
                closed_form=np.pad(closed.numpy(), (0, len(dense) - len(closed))) / top,
                zeros=int((dense <= COUNTED * top).sum()),
                predicted_zeros=len(dense) - nonzero_eigenvalues(factors),
                control_zeros=len(dense) - terms,
            )
        )
    return pd.concat(tables, ignore_index=True)

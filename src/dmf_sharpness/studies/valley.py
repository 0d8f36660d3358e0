"""The loss around the curve of minimizers along which the sharpness falls, and runs that leave its start.

For matrices the minimizers near a minimizer ``w*`` form no curve, and no plane shows the valley in which a
run drifts. So the map is on a curved surface, ``(s, a) ↦ γ(s) + a v_1(γ(s))``. Here ``γ`` is the curve of
minimizers from ``w*`` on along which the sharpness falls fastest, ``s`` its arc length, and ``v_1`` the top
eigenvector of the Hessian there. That an escaping run drifts in this direction, to leading order, is the
self-stabilization of Damian, Nichani and Lee (arXiv:2209.15594).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.run import Outcome, gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.hessian.spectrum import hessian_eigenvectors
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.network.factors import flatten, unflatten
from dmf_sharpness.network.loss import loss
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.tangent import retracted
from dmf_sharpness.studies.common import crossed
from dmf_sharpness.studies.landscape import flattening_direction

STUDY = StudyOptions(
    needs=("points", "path_length", "step_ratios", "radii", "steps"), one_value=("radii",)
)

CONSECUTIVE = 300
"""So many iterates are kept from the start on, and as many pairs of neighbours later on."""
MARGIN = 1.1
"""The map is wider than the runs by this factor."""


@dataclass(frozen=True)
class Valley:
    """``K`` minimizers on the curve of falling sharpness.

    Attributes:
        arc: Their arc length from the first one, ``(K,)``.
        points: The minimizers, flattened, ``(K, N)``.
        top: Their top eigenvectors, unit, with signs that do not change along the curve, ``(K, N)``.
        forward: The unit tangent of the curve, ``(K, N)``; zero at its end if the sharpness is least there.
        value: The sharpness, ``(K,)``.
    """

    arc: Tensor
    points: Tensor
    top: Tensor
    forward: Tensor
    value: Tensor


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """The map of the loss on the surface over ``γ``, and runs from ``w* + radius · v_1``, projected on it.

    ``γ`` ends at the length ``spec.path_length``, relative to the norm of ``w*``, or where the sharpness
    falls no further. An iterate is projected on the surface at the nearest of ``spec.points`` points of
    ``γ``, to first order along the curve.

    Returns:
        A row per point of the map (``part`` is ``map``) and per kept iterate (``run``): ``arc`` (``s`` over
        the norm of ``w*``), ``along_top`` (``a`` over it), ``loss``, and ``curve_ratio``
        (``λ_max/λ_flat`` at ``γ(s)``). Only with runs, else NaN: ``step_ratio``, ``step``, ``off`` (the
        distance from the surface over that norm), and ``end_ratio`` (``λ_max/λ_flat`` at the end of the
        run, if it converged).
    """
    tables = []
    for b in range(len(ensemble.kinds)):
        factors, problem = ensemble.one(b), ensemble.problem.chosen(b)
        flat = float(flat_sharpness(ensemble.target[b], ensemble.depth))
        norm = float(torch.linalg.vector_norm(flatten(factors)))
        valley = valley_of(factors, problem, spec.points, spec.path_length * norm)
        runs = _runs(valley, ensemble, b, spec)
        widest = runs.along_top.abs().where(runs.outcome != Outcome.DIVERGED).max()
        width = MARGIN * (spec.radii[0] if np.isnan(widest) else widest)
        rows = pd.concat(
            [_map(valley, ensemble.widths, problem, width, spec.points), runs], ignore_index=True
        )
        lengths = ["arc", "along_top", "off"]
        rows[lengths] /= norm
        rows[["curve_ratio", "end_ratio"]] /= flat
        identity = ensemble.rows(np.full(len(rows), b))
        tables.append(pd.concat([identity, rows.drop(columns="outcome")], axis=1))
    return pd.concat(tables, ignore_index=True)


def valley_of(factors: list[Tensor], problem: Problem, points: int, length: float) -> Valley:
    """The curve of minimizers on which the sharpness falls fastest, by Euler steps and projections.

    Args:
        factors: ``[W_1 … W_L]``, the minimizer at which the curve begins.
        problem: ``T``, shape ``(d_L, r)``, and ``S``.
        points: The largest number of points.
        length: The largest arc length.
    """
    shape = [tuple(W.shape) for W in factors]
    sizes = (shape[0][1], *[rows for rows, _ in shape])
    step = length / (points - 1)
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    W = factors
    for _ in range(points):
        values, vectors = hessian_eigenvectors(W, problem.input_gram)
        if found and values[0] >= found[-1][3]:
            break  # The sharpness has been least between this point and the last one.
        sign = torch.sign(found[-1][1] @ vectors[0]) if found else 1.0
        forward = flattening_direction(W, problem)
        found.append((flatten(W), sign * vectors[0], forward, values[0]))
        if not bool(forward.any()):
            break
        W = retracted(unflatten(flatten(W) + step * forward, sizes), problem)
    centre, top, forward, value = (torch.stack(column) for column in zip(*found, strict=True))
    return Valley(step * torch.arange(len(found)), centre, top, forward, value)


def _runs(valley: Valley, ensemble: Ensemble, b: int, spec: StudySpec) -> pd.DataFrame:
    """Runs from beside the first minimizer of the curve, a row per kept iterate."""
    ratio, radius = crossed(spec.step_ratios, spec.radii)
    step_size = 2 * ratio / valley.value[0]
    problem = ensemble.problem.chosen(b)
    start = valley.points[0] + radius[:, None] * valley.top[0]
    run = gradient_descent(
        unflatten(start, ensemble.widths), problem.target, step_size, spec.steps,
        input_root=problem.input_root, observe_every=1, keep_path=True,
    )  # fmt: skip
    kept = _kept_steps(spec.steps)
    ends = np.asarray(sharpness(run.factors, problem.input_gram).value)
    frames = []
    for r, c in enumerate(ratio.tolist()):
        steps = kept[kept <= int(run.steps[r])]
        iterates = run.observed.iterates[steps, r]
        arc, along_top, off = _on_surface(valley, iterates)
        converged = int(run.outcome[r]) == Outcome.CONVERGED
        frames.append(
            pd.DataFrame(
                {
                    "part": "run", "step_ratio": c, "step": steps,
                    "arc": arc, "along_top": along_top, "off": off,
                    "loss": run.observed.loss[steps, r].numpy(),
                    "curve_ratio": np.interp(arc, valley.arc.numpy(), valley.value.numpy()),
                    "end_ratio": ends[r] if converged else np.nan,
                    "outcome": int(run.outcome[r]),
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def _kept_steps(steps: int) -> np.ndarray:
    """All of the first steps, and later pairs of neighbours at times that grow geometrically."""
    first = np.arange(min(CONSECUTIVE, steps) + 1)
    later = np.geomspace(CONSECUTIVE, max(steps - 1, CONSECUTIVE), CONSECUTIVE).astype(int)
    kept = np.unique(np.concatenate([first, later, later + 1]))
    return kept[kept <= steps]


def _on_surface(valley: Valley, iterates: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``s``, ``a`` and the distance from the surface of points ``(K, N)``, each ``(K,)``."""
    best = torch.full((len(iterates),), torch.inf)
    arc, along = torch.zeros_like(best), torch.zeros_like(best)
    half = float(valley.arc[1]) / 2 if len(valley.arc) > 1 else 0.0
    parts = zip(valley.arc, valley.points, valley.top, valley.forward, strict=True)
    for s, point, top, forward in parts:
        shift = iterates - point
        a = shift @ top
        t = (shift @ forward).clamp(-half, half)
        off = torch.linalg.vector_norm(shift - a[:, None] * top - t[:, None] * forward, dim=1)
        nearer = off < best
        best = torch.where(nearer, off, best)
        arc, along = torch.where(nearer, s + t, arc), torch.where(nearer, a, along)
    return arc.numpy(), along.numpy(), best.numpy()


def _map(
    valley: Valley, widths: tuple[int, ...], problem: Problem, width: float, points: int
) -> pd.DataFrame:
    """The loss on the surface, a row per point of a grid."""
    a = torch.linspace(-width, width, points, dtype=torch.float64)
    surface = valley.points[:, None] + a[:, None] * valley.top[:, None]
    count = len(valley.arc)
    return pd.DataFrame(
        {
            "part": "map",
            "arc": np.repeat(valley.arc.numpy(), points),
            "along_top": np.tile(a.numpy(), count),
            "loss": loss(unflatten(surface, widths), problem).flatten().numpy(),
            "curve_ratio": np.repeat(valley.value.numpy(), points),
            "outcome": np.nan,
        }
    )

"""Common parts of the escape studies: minimizers with their top eigenvalues, and runs beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.descent.outcomes import EscapeOutcome, classify
from dmf_sharpness.descent.run import DescentRun, gradient_descent
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.network.balance import flat_sharpness
from dmf_sharpness.network.factors import flatten, unflatten
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.tangent import curvature_of

LINEAR_WINDOW = (1e-10, 1e-6)
"""Displacements in this range, relative to the minimizer's norm, grow linearly: neither rounding nor
nonlinear terms matter."""

ROUNDING = 1e-13
"""Rounding displaces a start at the minimizer itself by this, relative to the minimizer's norm."""

CLOSE_LOSS = 1e-12
"""Below this loss, relative to ``‖T‖_F²``, the curvature counts as that of a minimizer."""


@dataclass(frozen=True)
class Sites:
    """``B`` minimizers to start beside.

    Attributes:
        centre: The minimizers, flattened, ``(B, N)``.
        top: ``v_1``, unit, ``(B, N)``.
        value: ``λ_max``, ``(B,)``, as the largest eigenvalue of the whole spectrum.
        closed_form: ``λ_max``, ``(B,)``, by the closed form; equal to ``value`` up to rounding.
        second: The second eigenvalue, ``(B,)``; 0 if there is none.
        flat: ``λ_flat``, ``(B,)``; NaN with inputs; it is compared in matrix factorization only.
        problem: ``T``, ``(B, d_L, r)``, and ``S``.
        widths: ``(d_0, …, d_L)``.
    """

    centre: Tensor
    top: Tensor
    value: Tensor
    closed_form: Tensor
    second: Tensor
    flat: Tensor
    problem: Problem
    widths: tuple[int, ...]

    def factors(self, points: Tensor | None = None) -> list[Tensor]:
        """The factors of the minimizers, or of other points of parameter space ``(…, N)``."""
        return unflatten(self.centre if points is None else points, self.widths)


def sites_of(ensemble: Ensemble) -> Sites:
    """All minimizers of a network, with their top eigenvectors and their two largest eigenvalues."""
    top = sharpness(ensemble.factors, ensemble.problem.input_gram)
    spectrum = curvature_of(ensemble.factors, ensemble.input_root).eigenvalues
    value = spectrum[:, -1]
    flat = torch.full_like(value, torch.nan)
    if ensemble.input_root is None:
        flat = torch.as_tensor(flat_sharpness(ensemble.target, ensemble.depth))
    return Sites(
        centre=flatten(ensemble.factors),
        top=flatten(top.eigenvector),
        value=value,
        closed_form=torch.as_tensor(top.value),
        second=spectrum[:, -2] if spectrum.shape[1] > 1 else torch.zeros_like(value),
        flat=flat,
        problem=ensemble.problem,
        widths=ensemble.widths,
    )


def crossed(*axes: Sequence[float] | Tensor) -> list[Tensor]:
    """All combinations of the values, one column per axis; the last axis varies fastest."""
    return list(
        torch.cartesian_prod(*[torch.as_tensor(axis, dtype=torch.float64) for axis in axes]).unbind(
            -1
        )
    )


def random_directions(count: int, size: int, seed: Sequence[int]) -> Tensor:
    """Unit vectors, uniform on the sphere, ``(count, size)``."""
    draws = torch.from_numpy(np.random.default_rng(seed).standard_normal((count, size)))
    return draws / torch.linalg.vector_norm(draws, dim=1, keepdim=True)


@dataclass(frozen=True)
class Settled:
    """Runs that started beside minimizers, and their outcomes.

    Attributes:
        run: The runs.
        outcome: ``(R,)``, the names of the outcomes in lower case.
        farthest: Largest distance from the minimizer, ``(R,)``.
        end_ratio: ``ηλ_max/2`` at the end, if the run landed, or if it is still settling and its loss is at
            most ``1e-12 ‖T‖_F²``, where the curvature is that of a minimizer to about 1e-6; else NaN.
    """

    run: DescentRun
    outcome: np.ndarray
    farthest: np.ndarray
    end_ratio: np.ndarray


def settle(
    sites: Sites,
    index: Tensor,
    shift: Tensor,
    step_size: Tensor,
    steps: int,
    observe_every: int = 10,
    directions: Tensor | None = None,
    landed_only: bool = False,
) -> Settled:
    """Run gradient descent from points beside minimizers until it ends, and name the outcomes.

    Args:
        sites: The minimizers.
        index: The number of the minimizer beside which each run starts, ``(R,)``.
        shift: Displacement of the start, ``(R, N)``.
        step_size: ``η``, ``(R,)``.
        steps: The largest number of steps.
        observe_every: The number of steps between two observations of the distance.
        directions: Directions to project the displacement on, ``(R, P, N)``.
        landed_only: Leave ``end_ratio`` NaN for runs that are still settling.
    """
    centre, problem = sites.centre[index], sites.problem.chosen(index)
    run = gradient_descent(
        sites.factors(centre + shift),
        problem.target,
        step_size,
        steps,
        input_root=problem.input_root,
        observe_every=observe_every,
        reference=centre,
        directions=directions,
    )
    last = torch.linalg.vector_norm(flatten(run.factors) - centre, dim=1)
    farthest = run.observed.distance.nan_to_num(nan=0.0, posinf=torch.inf).amax(0)
    if observe_every > 1:  # the last iterate may not have been observed
        farthest = torch.maximum(farthest, last)
    # A start at the minimizer itself has no displacement but that of rounding.
    floor = ROUNDING * torch.linalg.vector_norm(centre, dim=1)
    radius = torch.maximum(torch.linalg.vector_norm(shift, dim=1), floor)
    outcome, _ = classify(run, radius, farthest, last, problem, step_size)
    landed = torch.tensor([o is EscapeOutcome.LANDED for o in outcome])
    if not landed_only:
        close = run.loss <= CLOSE_LOSS * problem.target.square().sum((-2, -1))
        landed |= close & torch.tensor([o is EscapeOutcome.UNDECIDED for o in outcome])
    end_ratio = np.full(len(outcome), np.nan)
    if bool(landed.any()):
        value = torch.as_tensor(
            sharpness([W[landed] for W in run.factors], problem.input_gram).value
        )
        end_ratio[landed.numpy()] = (step_size[landed] * value / 2).numpy()
    names = np.array([o.name.lower() for o in outcome])
    return Settled(run, names, farthest.numpy(), end_ratio)


def growth_per_step(projection: Tensor, norm: Tensor) -> np.ndarray:
    """The factor by which ``|projection|`` changes per step while it is within ``LINEAR_WINDOW``.

    Args:
        projection: Displacement along ``v_1``, shape ``(K, B)``, one row per step; NaN after the end.
        norm: ``‖w‖`` of the minimizers, shape ``(B,)``, the unit of ``LINEAR_WINDOW``.

    Returns:
        ``(B,)``; NaN for a run with fewer than three steps in the window.
    """
    size = (projection.abs() / norm).numpy()
    low, high = LINEAR_WINDOW
    growth = np.full(size.shape[1], np.nan)
    for b in range(size.shape[1]):
        inside = (size[:, b] >= low) & (size[:, b] <= high)
        first = int(inside.argmax())
        # Only the first visit to the window counts; the run may pass through it again later.
        length = (
            int((~inside[first:]).argmax()) if not inside[first:].all() else len(inside) - first
        )
        if inside[first] and length >= 3:
            growth[b] = (size[first + length - 1, b] / size[first, b]) ** (1 / (length - 1))
    return growth

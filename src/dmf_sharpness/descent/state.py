"""What runs underneath :func:`dmf_sharpness.descent.run.gradient_descent`: the state, and PyTorch.

An engine takes a batch of :class:`Runs` some steps further. There are two, of one contract: the
compiled kernel (:mod:`dmf_sharpness.descent.compiled_engine`), and :func:`advance` here, which needs
nothing but PyTorch, runs on any device, and takes minibatches.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RUNNING, CONVERGED, DIVERGED = 0, 1, 2


@dataclass(frozen=True)
class Minibatch:
    """Training on a random part of the data at each step.

    The gradient of a step is ``n/size`` times that of the loss on ``size`` of the ``n`` columns,
    drawn without replacement: its mean is the gradient of the whole loss. All runs of a batch see
    the same columns, drawn from ``(seed, step)``, so that a run does not depend on the others.

    Attributes:
        inputs: ``X``, shape ``(d_0, n)``.
        outputs: ``Y``, shape ``(d_L, n)``.
        size: Columns per step, from 1 to ``n``.
        seed: Seed of the draws.
    """

    inputs: Tensor
    outputs: Tensor
    size: int
    seed: int

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Target and input root of one step, scaled by ``(n/size)^{1/2}``."""
        count = self.inputs.shape[1]
        rng = np.random.default_rng([self.seed, step])
        chosen = torch.from_numpy(rng.choice(count, self.size, replace=False))
        scale = (count / self.size) ** 0.5
        return scale * self.outputs[:, chosen], scale * self.inputs[:, chosen]


@dataclass(frozen=True)
class Method:
    """The rule of a step, the same for all runs.

    Attributes:
        momentum: ``β``; 0 is plain gradient descent.
        nesterov: Take the gradient at the point that the momentum alone would reach.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
        check_every: Steps between two looks at convergence.
        growth: A run's limit is at least so many times its loss at step 0.
        minibatch: Draws part of the data for each step; None uses all of it.
    """

    momentum: float
    nesterov: bool
    input_root: Tensor | None
    check_every: int
    growth: float
    minibatch: Minibatch | None = None


@dataclass
class Runs:
    """``B`` runs under way; an engine updates it in place.

    Attributes:
        widths: ``(d_0, …, d_L)``.
        w: Parameters, ``(B, N)``.
        velocity: Of momentum, ``(B, N)``; None without.
        target: ``T``, shape ``(B, d_L, r)``.
        eta: Step sizes, ``(B,)``.
        limit: A run with a loss above it, or NaN, has diverged; ``(B,)``, raised at step 0.
        floor: A run with a loss not above it, not growing, has converged; ``(B,)``.
        previous: The loss at the last look at convergence, ``(B,)``.
        outcome: 0 running, 1 converged, 2 diverged; ``(B,)``, int64.
        taken: Steps taken, ``(B,)``, int64.
        loss: At the last iterate of the last advance, ``(B,)``.
        reference: Point that distances are measured from, ``(B, N)``.
        directions: Directions to project the displacement on, ``(B, P, N)``.
    """

    widths: tuple[int, ...]
    w: Tensor
    velocity: Tensor | None
    target: Tensor
    eta: Tensor
    limit: Tensor
    floor: Tensor
    previous: Tensor
    outcome: Tensor
    taken: Tensor
    loss: Tensor
    reference: Tensor
    directions: Tensor

    def select(self, which: Tensor) -> "Runs":
        """The runs of the given numbers or mask, as a copy."""

        def chosen(values: Tensor) -> Tensor:
            return values[which].contiguous()

        return Runs(
            widths=self.widths,
            w=chosen(self.w),
            velocity=None if self.velocity is None else chosen(self.velocity),
            target=chosen(self.target),
            eta=chosen(self.eta),
            limit=chosen(self.limit),
            floor=chosen(self.floor),
            previous=chosen(self.previous),
            outcome=chosen(self.outcome),
            taken=chosen(self.taken),
            loss=chosen(self.loss),
            reference=chosen(self.reference),
            directions=chosen(self.directions),
        )


@dataclass(frozen=True)
class Observed:
    """Observations of ``B`` runs at ``K`` times, NaN where a run had ended.

    Attributes:
        loss: ``(K, B)``.
        distance: ``(K, B)``, Euclidean, from the reference.
        projections: ``(K, B, P)``.
        path: ``(K, B, N)``, the iterates themselves; None if they were not asked for.
        measured: ``(K, B, Q)``, numbers made of the iterates; None if none were asked for.
    """

    loss: Tensor
    distance: Tensor
    projections: Tensor
    path: Tensor | None
    measured: Tensor | None = None

    @property
    def iterates(self) -> Tensor:
        """:attr:`path`, where it was asked for.

        Raises:
            ValueError: It was not.
        """
        if self.path is None:
            raise ValueError("keep_path: expected True, to have the iterates, got False")
        return self.path


def observation_steps(first: int, steps: int, final: bool, every: int) -> range:
    """The steps of an advance at which runs are observed."""
    start = -(-first // every) * every
    return range(start, first + steps + (1 if final else 0), every)

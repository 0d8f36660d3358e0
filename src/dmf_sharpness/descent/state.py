"""The state of runs of gradient descent, which both engines share.

An engine is a function ``advance`` that takes a batch of :class:`Runs` some steps further. There are two
with the same arguments: :mod:`dmf_sharpness.descent.compiled_engine` calls the kernel in C, and
:mod:`dmf_sharpness.descent.torch_engine` needs only PyTorch and runs on any device.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RUNNING, CONVERGED, DIVERGED = 0, 1, 2
"""The outcomes of a run as integers, because the kernel in C uses these numbers too."""


@dataclass(frozen=True)
class Minibatch:
    """A random part of the data for each step.

    The gradient of a step is ``n/size`` times that of the loss on ``size`` of the ``n`` columns, drawn
    without replacement, so that its mean is the gradient of the whole loss. All runs of a batch use the
    same columns, which depend on ``(seed, step)`` alone, so that no run depends on the others.

    Attributes:
        inputs: ``X``, shape ``(d_0, n)``.
        outputs: ``Y``, shape ``(d_L, n)``.
        size: The number of columns per step, from 1 to ``n``.
        seed: Seed of the draws.

    >>> from dmf_sharpness import Minibatch, gradient_descent
    >>> X, Y = torch.eye(2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    >>> one = Minibatch(X, Y, size=1, seed=0)
    >>> start = [torch.ones(1, 2, 2, dtype=torch.float64), torch.ones(1, 1, 2, dtype=torch.float64)]
    >>> run = gradient_descent(start, Y, step_size=0.05, steps=1000, minibatch=one)
    >>> round(float(run.loss), 6)
    0.0
    """

    inputs: Tensor
    outputs: Tensor
    size: int
    seed: int

    def columns(self, step: int) -> Tensor:
        """The numbers of the columns of one step, ``(size,)``, int64, on the CPU."""
        rng = np.random.default_rng([self.seed, step])
        return torch.from_numpy(rng.choice(self.inputs.shape[1], self.size, replace=False))

    @property
    def scale(self) -> float:
        """``(n/size)^{1/2}``: the loss on columns that are scaled by it has ``n/size`` times the gradient."""
        return float((self.inputs.shape[1] / self.size) ** 0.5)

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """The target and the input root of one step, both scaled by ``(n/size)^{1/2}``."""
        chosen = self.columns(step)
        return self.scale * self.outputs[:, chosen], self.scale * self.inputs[:, chosen]


@dataclass(frozen=True)
class Method:
    """The rule of a step, the same for all runs.

    Attributes:
        momentum: ``β``; 0 is plain gradient descent.
        nesterov: Whether the gradient is taken at the point that the momentum alone would reach.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
        check_every: The number of steps between two checks for convergence.
        growth: The limit of a run is at least this many times its loss at step 0.
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
    """The state of ``B`` runs, which an engine updates in place.

    Attributes:
        widths: ``(d_0, …, d_L)``.
        w: The parameters, ``(B, N)``.
        velocity: The velocity of the momentum methods, ``(B, N)``; None for plain gradient descent.
        target: ``T``, shape ``(B, d_L, r)``.
        observed: The weight ``ω`` of each entry of ``T``, shape ``(B, d_L, r)``; None for weights of 1.
        eta: The step sizes, ``(B,)``.
        limit: A run whose loss is above this, or NaN, has diverged; ``(B,)``. Step 0 may raise it, by
            :attr:`Method.growth`.
        floor: A run whose loss is at most this, and does not grow, has converged; ``(B,)``.
        previous: The loss at the last check for convergence, ``(B,)``.
        outcome: 0 for running, 1 for converged, 2 for diverged; ``(B,)``, int64.
        taken: The number of steps taken, ``(B,)``, int64.
        loss: The loss at the last iterate that the engine has evaluated, ``(B,)``.
        reference: The point that distances are measured from, ``(B, N)``; ``(B, 0)`` if none are.
        directions: The directions to project the displacement on, ``(B, P, N)``.
    """

    widths: tuple[int, ...]
    w: Tensor
    velocity: Tensor | None
    target: Tensor
    observed: Tensor | None
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
        """A copy of the runs with the given numbers, or of those in the given mask."""

        def chosen(values: Tensor) -> Tensor:
            return values[which].contiguous()

        return Runs(
            widths=self.widths,
            w=chosen(self.w),
            velocity=None if self.velocity is None else chosen(self.velocity),
            target=chosen(self.target),
            observed=None if self.observed is None else chosen(self.observed),
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
        path: ``(K, B, N)``, the iterates; None if they were not asked for.
        measured: ``(K, B, Q)``, a function's values at the iterates; None if none was given.
    """

    loss: Tensor
    distance: Tensor
    projections: Tensor
    path: Tensor | None
    measured: Tensor | None = None

    @property
    def iterates(self) -> Tensor:
        """The iterates ``(K, B, N)``, if they were recorded.

        Raises:
            ValueError: They were not.
        """
        if self.path is None:
            raise ValueError("keep_path: expected True, to have the iterates, got False")
        return self.path


def observation_steps(first: int, steps: int, final: bool, every: int) -> range:
    """The steps at which an engine observes the runs, between ``first`` and ``first + steps``."""
    start = -(-first // every) * every
    return range(start, first + steps + (1 if final else 0), every)

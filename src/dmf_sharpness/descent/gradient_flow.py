"""Gradient flow ``dW/dt = −∇f(W)``, the limit of gradient descent as the step size goes to zero.

The minimizer at which gradient descent ends is a smooth function of the step size, ``W(η)``, because the
minimizers attract in all directions across their set. Its value at zero, the end of the flow, is found by
Richardson's extrapolation from step sizes that are halved again and again (Hairer, Nørsett and Wanner,
*Solving Ordinary Differential Equations I*, section II.9, have the method for a fixed time).

The flow keeps ``W_{i+1}ᵀ W_{i+1} − W_i W_iᵀ`` (Arora, Cohen and Hazan, arXiv:1802.06509). A step of descent
does not, and the extrapolation does not know of it, so that the change of these matrices from the start to
the end is a measure of the error, beside the change from one order of the extrapolation to the next.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dmf_sharpness.descent.run import Outcome, gradient_descent
from dmf_sharpness.network.factors import Factors, flatten, unflatten, widths
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.tangent import curvature_of, retracted

HALVINGS = 4
"""The coarsest step size is halved so often."""
COARSEST = 0.4
"""The coarsest step size times the Gauss–Newton sharpness at the start."""
REFINEMENT = 4
"""Where the error is too large, the coarsest step size is divided by this."""
COARSEST_STEPS = 20_000
"""A flow that has not ended after so many of the coarsest steps, near a saddle for instance, is given up."""
POLISHES = 2
"""Gauss–Newton steps from the end of a run to a minimizer."""


@dataclass(frozen=True)
class GradientFlow:
    """The ends of ``B`` gradient flows.

    Attributes:
        factors: The minimizers at which they end, ``(B, d_i, d_{i-1})``; NaN where a flow has not ended.
        error: ``(B,)``, the change of the end from the last order of the extrapolation but one to the last,
            relative to the norm of the factors; NaN where a flow has not ended.
        drift: ``(B,)``, the change of the conserved quantities, relative to ``Σ‖W_i‖_F²`` at the end.
    """

    factors: list[Tensor]
    error: Tensor
    drift: Tensor

    @property
    def ended(self) -> Tensor:
        """``(B,)``, whether the flow has ended at a minimizer."""
        return self.error.isfinite()


def conserved_quantities(factors: Factors) -> list[Tensor]:
    """``W_{i+1}ᵀ W_{i+1} − W_i W_iᵀ`` for each hidden layer, ``(…, d_i, d_i)``, which gradient flow keeps."""
    return [after.mT @ after - before @ before.mT for before, after in pairwise(factors)]


def conserved_drift(start: Factors, end: Factors) -> Tensor:
    """The change of the conserved quantities, relative to ``Σ‖W_i‖_F²`` at the end, shape ``(…)``."""
    pairs = zip(conserved_quantities(start), conserved_quantities(end), strict=True)
    change = torch.stack([(b - a).square().sum((-2, -1)) for a, b in pairs]).sum(0).sqrt()
    return change / flatten(end).square().sum(-1)


def gradient_flow(
    factors: Factors, problem: Problem, *, tolerance: float = 1e-6, refinements: int = 5
) -> GradientFlow:
    """The minimizers at which gradient flow from the given starts ends.

    Args:
        factors: The starts, ``W_i`` of shape ``(B, d_i, d_{i-1})``, float64.
        problem: ``T`` of shape ``(B, d_L, r)``, and ``S``.
        tolerance: The wanted error, see :class:`GradientFlow`.
        refinements: Where the error is larger, all step sizes are made smaller up to so often.
    """
    w, shape = flatten(factors), widths(factors)
    end, error = torch.full_like(w, torch.nan), torch.full_like(w[:, 0], torch.nan)
    step_size = COARSEST / curvature_of(factors, problem.input_root).eigenvalues[:, -1]
    left = torch.arange(len(w))
    for _ in range(1 + refinements):
        found, change = _extrapolated(w[left], shape, problem.chosen(left), step_size[left])
        better = change < error[left].nan_to_num(nan=torch.inf)
        end[left[better]], error[left[better]] = found[better], change[better]
        # A flow that a run has not followed to its end within the steps, at a saddle, has a change of NaN.
        left = left[(change > tolerance)]
        step_size = step_size / REFINEMENT
        if not len(left):
            break
    last = unflatten(end, shape)
    return GradientFlow(last, error, conserved_drift(factors, last))


def _extrapolated(
    start: Tensor, shape: tuple[int, ...], problem: Problem, step_size: Tensor
) -> tuple[Tensor, Tensor]:
    """The end at step size zero, ``(B, N)``, and its change in the last order.

    The change is infinite where a run has diverged, and NaN where one has not ended within the steps.
    """
    end, change = torch.full_like(start, torch.nan), torch.full_like(step_size, torch.nan)
    going = torch.arange(len(start))
    column: list[Tensor] = []  # the row of Neville's scheme that belongs to the present step size
    for k in range(HALVINGS + 1):
        here = problem.chosen(going)
        run = gradient_descent(
            unflatten(start[going], shape),
            here.target,
            step_size[going] / 2**k,
            COARSEST_STEPS * 2**k,
            input_root=here.input_root,
        )
        ended = run.outcome == Outcome.CONVERGED
        change[going[run.outcome == Outcome.DIVERGED]] = torch.inf
        going, column = going[ended], [values[ended] for values in column]
        if not len(going):
            return end, change
        here = problem.chosen(going)
        row = [flatten(retracted([W[ended] for W in run.factors], here, POLISHES))]
        for j, coarser in enumerate(column, 1):
            row.append(row[-1] + (row[-1] - coarser) / (2**j - 1))
        column = row
    polished = flatten(retracted(unflatten(column[-1], shape), here, POLISHES))
    size = torch.linalg.vector_norm(polished, dim=1)
    end[going] = polished
    change[going] = torch.linalg.vector_norm(column[-1] - column[-2], dim=1) / size
    return end, change

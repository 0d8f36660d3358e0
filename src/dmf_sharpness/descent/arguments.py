"""The arguments of gradient descent, checked in one place for all engines.

The checked arguments have the type, the shape and the device that an engine expects, are finite and carry
no autograd graph. An engine checks nothing again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from dmf_sharpness.arguments import (
    checked_choice,
    checked_flag,
    checked_integer,
    checked_number,
    checked_positive_numbers,
    checked_tensor,
    shown,
)
from dmf_sharpness.descent.state import Minibatch
from dmf_sharpness.network.factors import Factors, checked_factors, end_to_end, widths
from dmf_sharpness.network.observation import checked_weights

Engine = Literal["auto", "compiled", "torch"]
Measure = Callable[[list[Tensor]], Tensor]

LEAST_TARGET, MOST_TARGET = 1e-140, 1e140
"""``‖T‖_F`` must be zero or in this range, where ``1e-20 ‖T‖_F²`` and ``1e10 ‖T‖_F²`` are normal floats."""
LEAST_LOSS = LEAST_TARGET**2
"""Squared norms and losses below this are not trusted, because squares may have underflowed."""
_ROUNDING = 1e-12
"""A norm may lie outside of the range by this relative amount, which rounding can cause."""


@dataclass(frozen=True)
class Request:
    """The checked arguments of :func:`dmf_sharpness.gradient_descent`.

    Attributes:
        widths: ``(d_0, …, d_L)``.
        factors: ``W_i`` of shape ``(B, d_i, d_{i-1})``.
        target: ``T``, shape ``(B, d_L, r)``.
        observed: ``ω``, shape ``(B, d_L, r)``, or None for weights of one. ``target`` is zero where ``ω`` is.
        scale: ``Σ ω_ij T_ij²``, ``‖T‖_F²`` without weights, shape ``(B,)``.
        step_size: ``η``, shape ``(B,)``.
        steps: The largest number of steps, at least 1.
        input_root: ``S``, shape ``(d_0, r)``, or None for the identity.
        observe_every: The number of steps between two observations, at least 1, or None.
        reference: The point that distances are measured from, shape ``(B, N)``, or None for the start.
        directions: The directions to project displacements on, shape ``(B, P, N)``, or None.
        keep_path: Whether the iterates are kept.
        measure: The function that is applied to the iterates, or None.
        momentum: ``β`` in ``[0, 1)``.
        nesterov: Whether Nesterov's method is used; only with a positive momentum.
        minibatch: The random part of the data that a step uses, or None for all data.
        engine: The requested engine.
    """

    widths: tuple[int, ...]
    factors: list[Tensor]
    target: Tensor
    observed: Tensor | None
    scale: Tensor
    step_size: Tensor
    steps: int
    input_root: Tensor | None
    observe_every: int | None
    reference: Tensor | None
    directions: Tensor | None
    keep_path: bool
    measure: Measure | None
    momentum: float
    nesterov: bool
    minibatch: Minibatch | None
    engine: Engine


def checked_request(
    factors: Factors,
    target: Tensor,
    step_size: object,
    steps: object,
    *,
    input_root: Tensor | None,
    observed: Tensor | None,
    observe_every: object,
    reference: Tensor | None,
    directions: Tensor | None,
    keep_path: object,
    measure: Measure | None,
    momentum: object,
    nesterov: object,
    minibatch: Minibatch | None,
    engine: object,
) -> Request:
    """All arguments of :func:`dmf_sharpness.gradient_descent`, checked.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A shape, a device or a value does not fit.
    """
    # The starts: they give the widths, the size of the batch and the device.
    W = _checked_start(factors)
    sizes = widths(W)
    batch, device = len(W[0]), W[0].device
    N = sum(layer[0].numel() for layer in W)

    # The problem: target and inputs.
    if input_root is not None:
        input_root = checked_tensor(input_root, "input_root", (sizes[0], None), device=device)
        if input_root.shape[1] == 0:
            raise ValueError("input_root: expected at least one column, got none")
    r = sizes[0] if input_root is None else input_root.shape[1]
    shapes = (sizes[-1], r), (batch, sizes[-1], r), (1, sizes[-1], r)
    target = checked_tensor(target, "target", *shapes, device=device, finite=observed is None)
    weighted = target
    if observed is not None:
        if minibatch is not None:
            raise ValueError("observed: expected None beside minibatch, got weights")
        observed = checked_weights(observed, *shapes, device=device)
        # An entry that is not observed may be NaN, of which zero times would be NaN again.
        target = target.expand(batch, -1, -1).masked_fill(observed == 0, 0.0)
        weighted = checked_tensor(target, "target") * observed.sqrt()
        observed = observed.expand(batch, -1, -1)

    # The rule of a step.
    eta = checked_positive_numbers(step_size, "step_size", batch, device)
    steps = checked_integer(steps, "steps", 1)
    beta = checked_number(momentum, "momentum", least=0, below=1)
    nesterov = checked_flag(nesterov, "nesterov")
    if nesterov and beta == 0:
        raise ValueError("nesterov: expected with a positive momentum, got momentum 0")
    if minibatch is not None:
        minibatch = _checked_minibatch(minibatch, sizes)

    # The observations.
    if observe_every is not None:
        observe_every = checked_integer(observe_every, "observe_every", 1)
    keep_path = checked_flag(keep_path, "keep_path")
    if measure is not None and not callable(measure):
        raise TypeError(f"measure: expected a function, got {shown(measure)}")
    if (keep_path or measure is not None) and observe_every is None:
        raise ValueError(
            "observe_every: expected a number of steps beside keep_path or measure, got None"
        )
    if reference is not None:
        reference = checked_tensor(reference, "reference", (batch, N), (1, N), (N,), device=device)
        reference = reference.expand(batch, N)
    if directions is not None:
        directions = checked_tensor(directions, "directions", (batch, None, N), device=device)

    return Request(
        widths=sizes,
        factors=W,
        target=target.expand(batch, -1, -1),
        observed=observed,
        scale=_checked_scale(weighted).expand(batch),
        step_size=eta,
        steps=steps,
        input_root=input_root,
        observe_every=observe_every,
        reference=reference,
        directions=directions,
        keep_path=keep_path,
        measure=measure,
        momentum=beta,
        nesterov=nesterov,
        minibatch=minibatch,
        engine=checked_choice(engine, "engine", get_args(Engine)),  # type: ignore[arg-type]
    )


def _checked_start(factors: object) -> list[Tensor]:
    W = checked_factors(factors)
    if W[0].ndim != 3:
        raise ValueError(
            f"factors: expected a batch, each of shape (B, d_i, d_i-1), got W_1 of "
            f"{tuple(W[0].shape)}"
        )
    return W


def _checked_scale(target: Tensor) -> Tensor:
    """``‖T‖_F²`` of each target, or of ``ω^{1/2} T``; exactly zero only for a target of zeros."""
    scale = target.square().sum((-2, -1)).reshape(-1)
    least, most = (float(end) for end in torch.aminmax(scale))
    if least >= LEAST_LOSS and most <= MOST_TARGET**2:
        return scale
    # Squares may have underflowed or overflowed, so the norm is computed from entries scaled to size one.
    size = target.abs().amax((-2, -1)).reshape(-1)
    unit = target.reshape(-1, *target.shape[-2:]) / torch.where(size > 0, size, 1.0)[:, None, None]
    norm = size * unit.square().sum((-2, -1)).sqrt()
    outside = (norm < LEAST_TARGET * (1 - _ROUNDING)) | (norm > MOST_TARGET * (1 + _ROUNDING))
    outside &= size > 0
    if bool(outside.any()):
        raise ValueError(
            f"target: expected a Frobenius norm of zero, or from {LEAST_TARGET:g} to {MOST_TARGET:g}, "
            f"got {float(norm[outside][0]):.3g}"
        )
    return scale


def _checked_minibatch(minibatch: Minibatch, sizes: tuple[int, ...]) -> Minibatch:
    if not isinstance(minibatch, Minibatch):
        raise TypeError(f"minibatch: expected a Minibatch, got {shown(minibatch)}")
    inputs = checked_tensor(minibatch.inputs, "minibatch: inputs", (sizes[0], None))
    count = inputs.shape[1]
    if count == 0:
        raise ValueError("minibatch: inputs: expected at least one column, got none")
    return replace(
        minibatch,
        inputs=inputs,
        outputs=checked_tensor(
            minibatch.outputs, "minibatch: outputs", (sizes[-1], count), device=inputs.device
        ),
        size=checked_integer(minibatch.size, "minibatch: size", 1, count),
        seed=checked_integer(minibatch.seed, "minibatch: seed", 0),
    )


def zero_starts(
    factors: list[Tensor], input_root: Tensor | None, observed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Losses ``‖W_{L:1} S‖_F²`` at a target of zero, and a mask of the runs whose product is zero.

    With weights the loss is the weighted one, and only observed entries of the product count.

    A loss of zero does not prove that the product is zero, because squares below 1e-308 underflow. The mask
    comes from factors that are divided by their largest entries, whose product does not underflow.
    """
    chain = factors if input_root is None else [input_root, *factors]
    largest = [W.abs().amax((-2, -1), keepdim=True) for W in chain]
    units = [W / torch.where(size > 0, size, 1.0) for W, size in zip(chain, largest, strict=True)]
    product, zero = end_to_end(chain), end_to_end(units) == 0
    if observed is not None:
        product, zero = product * observed.sqrt(), zero | (observed == 0)
    return product.square().sum((-2, -1)), zero.flatten(1).all(1)

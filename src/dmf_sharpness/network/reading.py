"""A model of PyTorch with its data, brought to the form that the library computes with.

The samples are rows, as in PyTorch: inputs ``(n, d_0)`` and targets ``(n, d_L)``. Inside they are columns.
If there are more of them than rows of ``S̃ = [X; 1ᵀ]``, the QR decomposition ``S̃ᵀ = Q R`` gives the root
``Rᵀ`` and the target ``Y Q``. The Gram matrix, whose condition number is the square, is not formed. The
constants of the loss, such as ½ or one over the number of entries, are put into both: the loss
``c ‖Y − H_L‖²`` is the sum of squares for ``c^{1/2} Y`` and ``c^{1/2} X``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict, TypeGuard, Unpack

import torch
from torch import Tensor, nn

from dmf_sharpness.arguments import checked_choice, checked_flag, checked_tensor, shown
from dmf_sharpness.network.factors import end_to_end
from dmf_sharpness.network.linear_model import LinearModel, TrainedTensor, augmented
from dmf_sharpness.network.modules import Found, found_layers, trained_tensors
from dmf_sharpness.network.problem import Problem

Model = nn.Module | Sequence[Tensor] | Mapping[str, Tensor]
"""What is read as a model: a module, a list of weights or a state dict."""


class ModelOptions(TypedDict, total=False):
    """The arguments of :func:`from_module` behind the model, for functions that pass them on."""

    inputs: Tensor | None
    targets: Tensor | None
    reduction: str
    half: bool
    trainable: Sequence[bool] | None
    promote: bool


def is_model(value: object) -> "TypeGuard[LinearModel | nn.Module | Mapping[str, Tensor]]":
    """Whether a value is a model and not a list of factors, as an ``nn.ParameterList`` is, too."""
    module = isinstance(value, nn.Module) and not isinstance(value, nn.ParameterList)
    return module or isinstance(value, LinearModel | Mapping)


def as_model(model: "Model | LinearModel", **options: Unpack[ModelOptions]) -> LinearModel:
    """A model that was read before as it is, and every other one by :func:`from_module`.

    Raises:
        TypeError: See :func:`from_module`.
        ValueError: See :func:`from_module`; or options are given for a model that was read before.
    """
    if isinstance(model, LinearModel):
        for name in options:
            raise ValueError(
                f"{name}: expected nothing beside a model that was read before, got a value"
            )
        return model
    return from_module(model, **options)


def from_module(
    model: Model,
    inputs: Tensor | None = None,
    targets: Tensor | None = None,
    *,
    reduction: str = "sum",
    half: bool = False,
    trainable: Sequence[bool] | None = None,
    promote: bool = False,
) -> LinearModel:
    """A deep linear network of PyTorch with its data, for all functions that take factors or a model.

    Args:
        model: An ``nn.Sequential`` of ``nn.Linear``, nested or with ``nn.Flatten`` and ``nn.Identity``; or a
            state dict, whose matrices are taken to be the weights in their order; or a list or
            ``nn.ParameterList`` of the weights ``[W_1 … W_L]``. A parameter that several layers of a module
            or a state dict use is tied; lists are never tied.
        inputs: The samples in rows, shape ``(n, d_0)``, or ``(n, …)`` if the module begins with
            ``nn.Flatten``. None stands for the unit vectors, as in matrix factorization.
        targets: Shape ``(n, d_L)``; without inputs the transposed matrix ``Mᵀ``, ``(d_0, d_L)``. None means
            that the network fits its data: the residual is taken to be zero.
        reduction: ``sum`` of the squares, or their ``mean`` over all entries of the targets, as in
            ``torch.nn.MSELoss``.
        half: Whether the loss has a factor ½ in front.
        trainable: For each layer whether its weight and bias are trained. None means that all are, but in
            a module those that require gradients.
        promote: Whether numbers of single precision are converted to float64. Otherwise they are
            refused, because a network that was trained in float32 misses a minimizer by rounding.

    Returns:
        The factors, biases and problem, what is trained, and the loss in words. Tensors that are float64
        already are those of the model and not copies, so that it should not be trained on meanwhile.

    Raises:
        TypeError: The model or the data have another type, or another precision and are not promoted.
        ValueError: A layer is not linear, widths do not fit, values are not finite, devices
            or types are mixed, nothing is trained, or there is no sample.

    Examples:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 1)).double()
        >>> read = from_module(model, torch.randn(10, 2, 2).double(), reduction="mean", half=True)
        >>> [tuple(W.shape) for W in read.factors], read.loss
        ([(3, 4), (1, 3)], '½ mean of squares')
    """
    promote, half = checked_flag(promote, "promote"), checked_flag(half, "half")
    checked_choice(reduction, "reduction", ("sum", "mean"))
    found = found_layers(model)
    factors, biases = _weights(found, promote)
    trained = trained_tensors(found, _checked_trainable(trainable, len(factors)))
    X = _samples(inputs, "inputs", factors[0].shape[1], factors[0], promote, found.flattens)
    count = factors[0].shape[1] if X is None else X.shape[1]
    Y = _samples(targets, "targets", factors[-1].shape[0], factors[0], promote, False)
    if X is not None and not any(b is not None for b in biases) and not bool(X.any()):
        raise ValueError("inputs: expected samples that are not all zero, got zeros")
    if Y is not None and Y.shape[1] != count:
        raise ValueError(f"targets: expected {count} samples, got {Y.shape[1]}")
    constant = (0.5 if half else 1.0) / (count * len(factors[-1]) if reduction == "mean" else 1)
    words = f"{'½ ' if half else ''}{reduction} of squares"
    return _reduced(factors, biases, trained, X, Y, constant, words)


def _reduced(
    factors: list[Tensor],
    biases: list[Tensor | None],
    trained: tuple[TrainedTensor, ...],
    X: Tensor | None,
    Y: Tensor | None,
    constant: float,
    words: str,
) -> LinearModel:
    """The model for checked samples in columns and the constant ``c`` of the loss."""
    d_0 = factors[0].shape[1]
    root = X
    if any(b is not None for b in biases):
        root = torch.eye(d_0).to(factors[0]) if X is None else X
        root = torch.cat([root, root.new_ones(1, root.shape[1])])
    elif X is None and constant != 1:
        root = torch.eye(d_0).to(factors[0])
    if root is not None:
        root = math.sqrt(constant) * root
    T = None if Y is None else math.sqrt(constant) * Y
    if root is not None and root.shape[1] > root.shape[0]:
        # The triangle of the inputs beside the targets has Y Q in it, so that Q is not formed.
        rows, beside = len(root), root if T is None else torch.cat([root, T])
        R = torch.linalg.qr(beside.mT, mode="r")[1]
        root, T = R[:rows, :rows].mT, None if T is None else R[:rows, rows:].mT
    fitted = T is not None
    if T is None:
        bare = LinearModel(factors, biases, trained, Problem(factors[0], root), False, words)
        T = end_to_end(augmented(bare) if root is None else [root, *augmented(bare)])
    return LinearModel(factors, biases, trained, Problem(T, root), fitted, words)


def _weights(found: Found, promote: bool) -> tuple[list[Tensor], list[Tensor | None]]:
    """Weights and biases in float64, whose shapes fit."""
    first = found.layers[0].weight
    factors: list[Tensor] = []
    biases: list[Tensor | None] = []
    for layer in found.layers:
        rows = factors[-1].shape[0] if factors else None
        W = _number(layer.weight, layer.name, first, promote, (None, rows))
        b = layer.bias
        factors.append(W)
        biases.append(
            None if b is None else _number(b, layer.bias_name, first, promote, (W.shape[0],))
        )
    return factors, biases


def _number(
    value: Tensor, name: str, first: Tensor, promote: bool, shape: Sequence[int | None]
) -> Tensor:
    """A weight or bias in float64, of the same type and device as the first weight of the model."""
    if value.dtype != first.dtype:
        raise TypeError(
            f"model: expected one type, got {first.dtype} and {value.dtype} in {name!r}"
        )
    name = f"model, {name}"
    value = _promoted(value, name, promote)
    checked = checked_tensor(value, name, shape, device=first.device)
    if 0 in checked.shape:
        raise ValueError(f"{name}: expected positive widths, got shape {tuple(checked.shape)}")
    return checked


def _samples(
    value: object, name: str, width: int, like: Tensor, promote: bool, flattens: bool
) -> Tensor | None:
    """Samples in columns, shape ``(width, n)``."""
    if value is None:
        return None
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {shown(value)}")
    value = _promoted(value, name, promote)
    if flattens and value.ndim > 2:
        value = value.flatten(1)
    rows = checked_tensor(value, name, (None, width), device=like.device)
    if not len(rows):
        raise ValueError(f"{name}: expected at least one sample, got none")
    return rows.mT


def _promoted(value: Tensor, name: str, promote: bool) -> Tensor:
    if value.dtype == torch.float64 or not value.dtype.is_floating_point:
        return value  # another type is refused by the check that follows
    if not promote:
        raise TypeError(
            f"{name}: expected a tensor of torch.float64, got {value.dtype}; promote=True converts it"
        )
    return value.to(torch.float64)


def _checked_trainable(value: object, count: int) -> list[bool] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise TypeError(f"trainable: expected a list of truth values, got {shown(value)}")
    if len(value) != count:
        raise ValueError(f"trainable: expected {count} truth values, got {len(value)}")
    return [checked_flag(item, "trainable") for item in value]

"""Layers from PyTorch: ``nn.Sequential`` of linear layers, lists of weights, and state dicts.

A module is read by its structure and never run, so everything in it must be known to be linear.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from dmf_sharpness.arguments import shown
from dmf_sharpness.network.factors import LISTS
from dmf_sharpness.network.linear_model import TrainedTensor

DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
"""The layers that draw random numbers; with one of them the loss of a network is another one."""


@dataclass(frozen=True)
class Layer:
    """A linear layer as it was found.

    Attributes:
        weight: ``W_i``, of any type.
        bias: ``b_i``, or None.
        name: The name of the weight; that of the bias has ``bias`` in the place of ``weight``.
    """

    weight: Tensor
    bias: Tensor | None
    name: str

    @property
    def bias_name(self) -> str:
        """The name of the bias."""
        return f"{self.name.removesuffix('weight')}bias"


@dataclass(frozen=True)
class Found:
    """The layers of a model, and what the way in which they were given says beside that.

    Attributes:
        layers: From the input to the output.
        flattens: Whether samples of any shape are made vectors first.
        frozen_marked: Whether ``requires_grad=False`` means that a tensor is not trained.
        can_be_tied: Whether tensors with the same memory are one.
    """

    layers: list[Layer]
    flattens: bool = False
    frozen_marked: bool = False
    can_be_tied: bool = False


def found_layers(model: object) -> Found:
    """The layers of a module, a list of weights or a state dict.

    Raises:
        TypeError: ``model`` is none of these, or has an entry that is not a tensor.
        ValueError: A layer is not linear, or there is none.
    """
    if isinstance(model, nn.ParameterList) or (
        not isinstance(model, nn.Module) and isinstance(model, LISTS)
    ):
        found = Found(_of_list(model))
    elif isinstance(model, nn.Module):
        parts = list(_parts(model, ""))
        layers = [_of_linear(layer, name) for name, layer in parts if isinstance(layer, nn.Linear)]
        found = Found(layers, _flattens(parts), frozen_marked=True, can_be_tied=True)
    elif isinstance(model, Mapping):
        found = Found(_of_state_dict(model), can_be_tied=True)
    else:
        raise TypeError(
            "model: expected an nn.Sequential of nn.Linear, a list of weights or a state dict, "
            f"got {shown(model)}"
        )
    if not found.layers:
        raise ValueError("model: expected at least one linear layer, got none")
    return found


def _parts(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested nn.Sequential with their names, identities left out."""
    hooked = bool(module._forward_hooks or module._forward_pre_hooks)
    plain = not hooked and "forward" not in vars(module)
    if plain and type(module) is nn.Sequential:
        # named_children() leaves out a layer that is there a second time, as tied layers are.
        for child, part in module._modules.items():
            if part is not None:
                yield from _parts(part, f"{name}{child}.")
    elif plain and type(module) in (nn.Linear, nn.Flatten):
        yield name, module
    elif not (plain and type(module) is nn.Identity):
        where = f"layer {name.removesuffix('.')!r}" if name else "the model"
        if isinstance(module, DROPOUT):
            raise ValueError(
                f"model: expected no dropout, whose loss is another one, got {shown(module)} as {where}; "
                "nn.Identity() in its place leaves it out"
            )
        changed = "a hook" if hooked else "another forward"
        got = shown(module) if plain else f"{type(module).__name__} with {changed}"
        raise ValueError(
            f"model: expected nn.Linear, nn.Flatten, nn.Identity or an nn.Sequential of them, got {got} "
            f"as {where}"
        )


def _flattens(parts: Sequence[tuple[str, nn.Module]]) -> bool:
    """Whether a Flatten comes first; behind a linear layer it must not change anything."""
    for place, (name, part) in enumerate(parts):
        if isinstance(part, nn.Flatten) and (part.start_dim, part.end_dim) != (1, -1):
            raise ValueError(
                "model: expected nn.Flatten of all dimensions but the first, got "
                f"{shown(part)} as layer {name.removesuffix('.')!r}"
            )
        if isinstance(part, nn.Linear):
            return place > 0
    return False


def _of_linear(layer: nn.Linear, name: str) -> Layer:
    return Layer(layer.weight, layer.bias, f"{name}weight")


def _of_list(weights: object) -> list[Layer]:
    layers = []
    for i, W in enumerate(weights, 1):  # type: ignore[var-annotated, arg-type]  # one of LISTS
        if not isinstance(W, Tensor):
            raise TypeError(f"model: expected W_{i} to be a tensor, got {shown(W)}")
        layers.append(Layer(W, None, f"W_{i}"))
    return layers


def _of_state_dict(state: Mapping[object, object]) -> list[Layer]:
    """Matrices are weights, in their order; a vector is the bias of the matrix of the same prefix."""
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise TypeError(
                f"model: expected names with tensors, got {shown(value)} as {shown(name)}"
            )
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    layers = []
    for name, W in tensors.items():
        if W.ndim == 2:
            layer = Layer(W, None, name)
            paired = name.endswith("weight") and layer.bias_name in tensors
            layers.append(Layer(W, tensors[layer.bias_name] if paired else None, name))
    used = {layer.name for layer in layers} | {
        layer.bias_name for layer in layers if layer.bias is not None
    }
    for name, value in tensors.items():
        if name not in used:
            raise ValueError(
                "model: expected weights, which are matrices, and their biases, got "
                f"{name!r} of shape {tuple(value.shape)}"
            )
    return layers


def trained_tensors(found: Found, trainable: Sequence[bool] | None) -> tuple[TrainedTensor, ...]:
    """What is trained, in the order of the layers, the weight of a layer before its bias.

    Args:
        found: The layers.
        trainable: For each layer whether it is trained; None means all, or in a module what requires
            gradients.

    Raises:
        ValueError: Nothing is trained, two tensors share part of their memory, or a tensor is trained in
            one layer and not in another one.
    """
    groups: dict[object, list[int]] = {}
    of_key: dict[object, tuple[str, bool, bool, Tensor]] = {}
    for i, layer in enumerate(found.layers):
        named = [(layer.weight, layer.name, False), (layer.bias, layer.bias_name, True)]
        for tensor, name, bias in named:
            if tensor is None:
                continue
            asks = not found.frozen_marked or tensor.requires_grad
            trains = asks if trainable is None else bool(trainable[i])
            key: object = _place(tensor) if found.can_be_tied else (i, bias)
            if key in of_key and of_key[key][2] != trains:
                raise ValueError(
                    f"trainable: expected the same for tied layers, got both for {name!r}"
                )
            of_key.setdefault(key, (name, bias, trains, tensor))
            groups.setdefault(key, []).append(i)
    if found.can_be_tied:
        _check_apart([(name, tensor) for name, _, _, tensor in of_key.values()])
    trained = tuple(
        TrainedTensor(name, tuple(groups[key]), bias)
        for key, (name, bias, trains, _) in of_key.items()
        if trains
    )
    if not trained:
        raise ValueError("trainable: expected a layer that is trained, got none")
    return trained


def _place(tensor: Tensor) -> object:
    """The place in memory and the layout: two tensors that agree in them are one."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.device


def _check_apart(tensors: Sequence[tuple[str, Tensor]]) -> None:
    """Refuse tensors that share memory without being the same, such as a weight and its transpose."""
    spans = []
    for name, tensor in tensors:
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        last = sum((size - 1) * stride for size, stride in steps) if tensor.numel() else -1
        first = tensor.data_ptr()
        spans.append((first, first + (last + 1) * tensor.element_size(), name))
    for (_, end, one), (start, _, other) in pairwise(sorted(spans)):
        if start < end:
            raise ValueError(
                f"model: expected tied parameters to be the same tensor, got {other!r} as another view of "
                f"{one!r}, for which no closed form is known, as for a weight and its transpose"
            )

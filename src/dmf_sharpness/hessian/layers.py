"""The diagonal blocks of the Hessian, one per layer, and its diagonal.

The output is linear in the parameters of a single layer. So the block of layer ``i`` is, at every
point and not only at minimizers,

    ``H_ii = 2 (L_iᵀL_i) ⊗ (V_iV_iᵀ)``,

where ``V_i = [H_{i−1}; 1ᵀ]`` is what the layer is fed, with the row of ones if it has a bias. The largest
eigenvalue is ``2 ‖L_i‖₂² ‖V_i‖₂²``, the trace ``2 ‖L_i‖_F² ‖V_i‖_F²``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_sharpness.hessian.model_curvature import check_ordinary
from dmf_sharpness.network.factors import left_factors
from dmf_sharpness.network.linear_model import LinearModel, TrainedTensor, input_rows, signals
from dmf_sharpness.network.reading import Model, as_model


@dataclass(frozen=True)
class LayerCurvature:
    """The Hessian block of one layer, its weight and its bias together.

    Attributes:
        layer: ``i``, counted from 1.
        names: The trained parameters of the layer.
        sharpness: The largest eigenvalue, ``2 ‖L_i‖₂² ‖V_i‖₂²``.
        trace: ``2 ‖L_i‖_F² ‖V_i‖_F²``.
        frobenius_norm: ``2 ‖L_iᵀL_i‖_F ‖V_iV_iᵀ‖_F``.

    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> last = layer_curvature([W, W, 2 * W])[-1]
    >>> last.layer, last.names, last.sharpness, last.trace
    (3, ('W_3',), 32.0, 68.0)
    """

    layer: int
    names: tuple[str, ...]
    sharpness: float
    trace: float
    frobenius_norm: float

    @property
    def stability_limit(self) -> float:
        """``2/λ`` of the block, at least that of the whole Hessian; ``inf`` if the block is zero."""
        return 2 / self.sharpness if self.sharpness > 0 else torch.inf


def layer_curvature(model: Model | LinearModel) -> list[LayerCurvature]:
    """The Hessian blocks of all trained layers, at any point, for the loss of the model.

    Args:
        model: The result of :func:`dmf_sharpness.from_module`, or what that takes: without data.

    Raises:
        TypeError: See :func:`dmf_sharpness.from_module`.
        ValueError: See there; or layers are tied, or numbers may leave the range of float64.

    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> [(block.sharpness, block.trace) for block in layer_curvature([W, W, 2 * W])]
    [(128.0, 272.0), (128.0, 200.0), (32.0, 68.0)]
    """
    model = _untied(model)
    blocks = []
    for i, tensors in _by_layer(model).items():
        L, V = _block(model, tensors, i)
        squares = [float(torch.linalg.matrix_norm(matrix, 2)) ** 2 for matrix in (L, V)]
        traces = [float(matrix.square().sum()) for matrix in (L, V)]
        norms = [float(torch.linalg.matrix_norm(gram)) for gram in (L.mT @ L, V @ V.mT)]
        names = tuple(tensor.name for tensor in tensors)
        blocks.append(
            LayerCurvature(
                i + 1, names, *(2 * math.prod(pair) for pair in (squares, traces, norms))
            )
        )
    return blocks


def hessian_diagonal(model: Model | LinearModel) -> list[Tensor]:
    """The diagonal of the Hessian at any point, one tensor per trained parameter, in their shapes.

    Args:
        model: The result of :func:`dmf_sharpness.from_module`, or what that takes: without data.

    Raises:
        TypeError: See :func:`dmf_sharpness.from_module`.
        ValueError: See there; or layers are tied, or numbers may leave the range of float64.

    >>> W = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> hessian_diagonal([W, W])[0]
    tensor([[8., 8.],
            [2., 2.]], dtype=torch.float64)
    """
    model = _untied(model)
    parts = []
    for tensor in model.trained:
        L, V = _block(model, [tensor], tensor.layers[0])
        part = 2 * L.square().sum(0)[:, None] * V.square().sum(1)
        parts.append(part[:, 0] if tensor.bias else part)
    return parts


def _untied(model: Model | LinearModel) -> LinearModel:
    model = as_model(model)
    check_ordinary(model)
    for tensor in model.trained:
        if len(tensor.layers) > 1:
            raise ValueError(f"model: expected no tied layers, got {tensor.name!r} in several")
    return model


def _by_layer(model: LinearModel) -> dict[int, list[TrainedTensor]]:
    """What is trained in each layer, which is counted from 0."""
    layers: dict[int, list[TrainedTensor]] = {}
    for tensor in model.trained:
        layers.setdefault(tensor.layers[0], []).append(tensor)
    return layers


def _block(model: LinearModel, tensors: Sequence[TrainedTensor], i: int) -> tuple[Tensor, Tensor]:
    """``L_i``, shape ``(d_L, d_i)``, and ``V_i`` for the given tensors of the layer, shape ``(…, r)``."""
    fed = signals(model)[i]
    rows = [input_rows(model, tensor, fed, i) for tensor in tensors]
    return left_factors(model.factors)[i], torch.cat(rows)

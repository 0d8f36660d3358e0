"""A deep linear network with biases, frozen layers and tied layers, and the data that it is trained on.

The layers are ``H_i = W_i H_{i−1} + b_i 1ᵀ``, with the inputs ``H_0 = X`` and the outputs ``H_L``, a
sample in each column. With a row of ones below the signals this is a network without biases again,

    ``[H_i; 1ᵀ] = [[W_i, b_i], [0, 1]] [H_{i−1}; 1ᵀ]``,

whose last rows are not trained. So all signals are ``R̃_i S̃``, with the *augmented* factors and
the augmented inputs ``S̃ = [X; 1ᵀ]``, and ``‖Y − H_L‖²`` is the loss of :class:`Problem` with them.
If there are more than ``d_0 + 1`` samples, a QR decomposition reduces them to ``d_0 + 1`` columns
(:mod:`dmf_sharpness.network.reading`). The derivation is in ``docs/models.md``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_sharpness.network.factors import Factors, left_factors, right_factors
from dmf_sharpness.network.problem import Problem


@dataclass(frozen=True)
class TrainedTensor:
    """A weight or a bias that is trained, in one layer, or tied in several.

    Attributes:
        name: Its name in the module, such as ``0.weight``.
        layers: The layers that use it, counted from 0.
        bias: Whether it is a bias.
    """

    name: str
    layers: tuple[int, ...]
    bias: bool


@dataclass(frozen=True)
class LinearModel:
    """A deep linear network with its data, as :func:`dmf_sharpness.from_module` makes it.

    Attributes:
        factors: ``[W_1 … W_L]``, ``W_i`` of shape ``(d_i, d_{i-1})``, float64.
        biases: ``[b_1 … b_L]``, ``b_i`` of shape ``(d_i,)``, or None where a layer has no bias.
        trained: What is trained, in the order of the parameters of the module.
        problem: The target ``T``, shape ``(d_L, r)``, and the input root ``S``, shape ``(d_0, r)``, or
            ``(d_0 + 1, r)`` for a network with biases. Constants of the loss such as ½ are part of both.
        fitted: Whether targets were given. If not, ``T`` is what the network computes.
        loss: The loss in words, such as ``sum of squares`` or ``½ mean of squares``.

    >>> from dmf_sharpness import from_module
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)).double()
    >>> model = from_module(net, inputs=torch.eye(3, dtype=torch.float64))
    >>> [tuple(W.shape) for W in model.factors], [tuple(b.shape) for b in model.biases]
    ([(2, 3), (1, 2)], [(2,), (1,)])
    >>> model.loss, model.fitted, tuple(model.problem.input_root.shape)
    ('sum of squares', False, (4, 3))
    """

    factors: list[Tensor]
    biases: list[Tensor | None]
    trained: tuple[TrainedTensor, ...]
    problem: Problem
    fitted: bool
    loss: str

    @property
    def has_biases(self) -> bool:
        """Whether a layer has a bias, trained or not."""
        return any(b is not None for b in self.biases)

    @property
    def plain(self) -> bool:
        """Whether there are no biases, and all weights are trained, each on its own."""
        trained = [tensor.layers for tensor in self.trained]
        return not self.has_biases and trained == [(i,) for i in range(len(self.factors))]

    @property
    def tied(self) -> bool:
        """Whether a tensor is used by several layers."""
        return any(len(tensor.layers) > 1 for tensor in self.trained)

    def shape(self, tensor: TrainedTensor) -> torch.Size:
        """The shape of a trained tensor, ``(d_i, d_{i-1})`` or ``(d_i,)``."""
        W = self.factors[tensor.layers[0]]
        return W.shape[:1] if tensor.bias else W.shape


def augmented(model: LinearModel) -> list[Tensor]:
    """``[[W_i, b_i], [0, 1]]``, the last one without its last row; the factors if there are no biases."""
    if not model.has_biases:
        return list(model.factors)
    layers = []
    for i, (W, b) in enumerate(zip(model.factors, model.biases, strict=True)):
        column = W.new_zeros(len(W)) if b is None else b
        layer = torch.cat([W, column[:, None]], 1)
        if i < len(model.factors) - 1:
            below = torch.zeros_like(layer[:1])
            below[0, -1] = 1.0
            layer = torch.cat([layer, below])
        layers.append(layer)
    return layers


def inserted(model: LinearModel, tensors: Sequence[Tensor]) -> list[Tensor]:
    """A direction in the trained tensors as a direction in the augmented factors; or a batch of them."""
    first = tensors[0].shape
    batch = first[: len(first) - len(model.shape(model.trained[0]))]
    extra = int(model.has_biases)
    direction = []
    for i, W in enumerate(model.factors):
        below = extra if i < len(model.factors) - 1 else 0
        direction.append(W.new_zeros(*batch, W.shape[0] + below, W.shape[1] + extra))
    for tensor, U in zip(model.trained, tensors, strict=True):
        for i in tensor.layers:
            rows, columns = model.factors[i].shape
            if tensor.bias:
                direction[i][..., :rows, -1] += U
            else:
                direction[i][..., :rows, :columns] += U
    return direction


def collected(model: LinearModel, direction: Factors) -> list[Tensor]:
    """The adjoint of :func:`inserted`: for each trained tensor the sum over the layers that use it."""
    tensors = []
    for tensor in model.trained:
        total = direction[0].new_zeros(model.shape(tensor))
        for i in tensor.layers:
            rows, columns = model.factors[i].shape
            part = direction[i][..., :rows, :]
            total = total + (part[..., -1] if tensor.bias else part[..., :columns])
        tensors.append(total)
    return tensors


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """All entries of some tensors in one vector."""
    return torch.cat([U.reshape(-1) for U in tensors])


def parted(model: LinearModel, vector: Tensor) -> list[Tensor]:
    """The tensors in the shapes of what is trained whose entries are in a vector ``(…, N)``."""
    shapes = [model.shape(tensor) for tensor in model.trained]
    parts = torch.split(vector, [shape.numel() for shape in shapes], dim=-1)
    return [
        part.reshape(*vector.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)
    ]


def trained_vector(model: LinearModel) -> Tensor:
    """The entries of all that is trained."""
    layers = [tensor.layers[0] for tensor in model.trained]
    values = [
        model.biases[i] if tensor.bias else model.factors[i]
        for tensor, i in zip(model.trained, layers, strict=True)
    ]
    return joined([value for value in values if value is not None])


def with_trained(model: LinearModel, vector: Tensor) -> LinearModel:
    """The model with other entries of all that is trained."""
    factors, biases = list(model.factors), list(model.biases)
    for tensor, value in zip(model.trained, parted(model, vector), strict=True):
        for i in tensor.layers:
            if tensor.bias:
                biases[i] = value
            else:
                factors[i] = value
    return replace(model, factors=factors, biases=biases)


def signals(model: LinearModel) -> list[Tensor]:
    """What the layers are fed, ``R̃_i S̃``, shape ``(d_{i-1}, r)``, with the ones below if there are biases."""
    layers, root = augmented(model), model.problem.input_root
    return right_factors(layers) if root is None else right_factors([root, *layers])[1:]


def input_rows(model: LinearModel, tensor: TrainedTensor, signal: Tensor, layer: int) -> Tensor:
    """The rows of a signal that a trained tensor is multiplied by: all for a weight, the ones for a bias."""
    return signal[-1:] if tensor.bias else signal[: model.factors[layer].shape[1]]


def curvature_pairs(model: LinearModel) -> list[tuple[Tensor, Tensor]]:
    """Pairs ``(A, B)``, with which ``J Jᵀ Y = Σ A Y B``, of shapes ``(d_L, d_L)`` and ``(r, r)``.

    A tensor ``U`` in the layers ``i ∈ g`` changes the outputs by ``Σ_i L_i U V_i``, where ``V_i`` is what
    layer ``i`` is fed, or the row of ones for a bias. So it contributes ``Σ_{i,j∈g} L_iL_jᵀ Y V_jᵀV_i``.
    Tensors of the same layers share a pair: for an untied layer with a bias ``B = H_{i−1}ᵀH_{i−1} + 11ᵀ``.
    """
    lefts, fed = left_factors(model.factors), signals(model)
    rights: dict[tuple[int, int], Tensor] = {}
    for tensor in model.trained:
        rows = {i: input_rows(model, tensor, fed[i], i) for i in tensor.layers}
        for i in tensor.layers:
            for j in tensor.layers:
                B = rows[j].mT @ rows[i]
                rights[i, j] = rights[i, j] + B if (i, j) in rights else B
    return [(lefts[i] @ lefts[j].mT, B) for (i, j), B in rights.items()]


def pulled_back(model: LinearModel, Y: Tensor) -> list[Tensor]:
    """``Jᵀ Y``, one tensor per trained tensor, for ``Y`` of shape ``(d_L, r)``."""
    lefts, fed = left_factors(model.factors), signals(model)
    images = []
    for tensor in model.trained:
        terms = [lefts[i].mT @ (Y @ input_rows(model, tensor, fed[i], i).mT) for i in tensor.layers]
        total = sum(terms[1:], start=terms[0])
        images.append(total[:, 0] if tensor.bias else total)
    return images


def residual_curvature(model: LinearModel) -> float:
    """A bound on the part of the Hessian that the residual ``E`` contributes, in the spectral norm.

    As a quadratic form it is ``U ↦ 4 Σ_{i<j} ⟨L_jᵀ E V_iᵀ, U_j W_{j−1:i+1} U_i⟩``, with trained tensors
    ``U_i`` and trained weights ``U_j``. So it is bounded by twice the norm of the matrix of the
    ``‖L_jᵀ E V_iᵀ‖_F ‖W_{j−1:i+1}‖_F``. It is zero if no weight is trained above another trained tensor, and
    it is rounding if the residual is orthogonal to the inputs, and with biases sums to zero.
    """
    lefts, fed = left_factors(model.factors), signals(model)
    E = augmented(model)[-1] @ fed[-1] - model.problem.target
    uses = [(p, i) for p, tensor in enumerate(model.trained) for i in tensor.layers]
    bound = E.new_zeros(len(model.trained), len(model.trained))
    between = _inner_norms(model.factors)
    for p, i in uses:
        seen = E @ input_rows(model, model.trained[p], fed[i], i).mT
        for q, j in uses:
            if i < j and not model.trained[q].bias:
                size = torch.linalg.matrix_norm(lefts[j].mT @ seen) * between[i, j]
                bound[p, q] += size
                bound[q, p] += size
    return 2 * float(torch.linalg.matrix_norm(bound, 2))


def _inner_norms(factors: Factors) -> dict[tuple[int, int], float]:
    """``‖W_{j−1:i+1}‖_F`` for the layers ``i < j`` counted from 0; 1 stands for the norm of the identity."""
    norms = {}
    for i in range(len(factors)):
        product: Tensor | None = None
        for j in range(i + 1, len(factors)):
            norms[i, j] = 1.0 if product is None else float(torch.linalg.matrix_norm(product))
            product = factors[j] if product is None else factors[j] @ product
    return norms

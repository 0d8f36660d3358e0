"""Random networks with biases, frozen and tied layers, and their dense Hessians by autograd.

The Hessian is that of the loss written with PyTorch's own layers and loss; nothing of the package is used.
"""

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn


def random_network(seed: int, depth: int | None = None, tied: bool = False) -> nn.Sequential:
    """Up to four layers of widths 1 to 5; each has a bias or not, and some parameters are frozen."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    depth = depth or draw(1, 4)
    widths = [draw(1, 5) for _ in range(depth + 1)]
    layers = [nn.Linear(d_in, d_out, bias=draw(0, 2) > 0) for d_in, d_out in pairwise(widths)]
    if tied:
        square = nn.Linear(widths[-1], widths[-1], bias=draw(0, 1) > 0)
        layers += [square, square]
    network = nn.Sequential(*layers).double()
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        parameter.requires_grad_(draw(0, 4) > 0)
    layers[draw(0, depth - 1)].weight.requires_grad_(True)
    return network


def samples(network: nn.Sequential, count: int, seed: int) -> Tensor:
    """Gaussian inputs in rows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, network[0].in_features, generator=generator, dtype=torch.float64)


def dense_hessian(
    network: nn.Sequential,
    inputs: Tensor | None = None,
    targets: Tensor | None = None,
    reduction: str = "sum",
    half: bool = False,
) -> Tensor:
    """The Hessian in what is trained; without targets that of a network that fits its data."""
    X = torch.eye(network[0].in_features, dtype=torch.float64) if inputs is None else inputs
    Y = network(X).detach() if targets is None else targets
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    starts = [0, *accumulate(parameter.numel() for parameter in trained)]
    place = dict(zip(trained, starts, strict=False))

    def loss(vector: Tensor) -> Tensor:
        def of(parameter: Tensor | None) -> Tensor | None:
            if parameter not in place:
                return None if parameter is None else parameter.detach()
            start = place[parameter]
            return vector[start : start + parameter.numel()].reshape(parameter.shape)

        signal = X
        for layer in network:
            signal = nn.functional.linear(signal, of(layer.weight), of(layer.bias))
        value = nn.functional.mse_loss(signal, Y, reduction=reduction)
        return value / 2 if half else value

    at = torch.cat([parameter.detach().reshape(-1) for parameter in trained])
    return torch.func.hessian(loss)(at)


def eigenvalues(hessian: Tensor) -> Tensor:
    """Descending."""
    return torch.linalg.eigvalsh((hessian + hessian.mT) / 2).flip(0)

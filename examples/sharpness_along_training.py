"""The sharpness along training with torch.optim.SGD, beside 2/η.

python examples/sharpness_along_training.py [figure.png]
"""

import sys

import matplotlib

matplotlib.use("Agg")  # a file and no window

import torch
from torch import nn

import dmf_sharpness as dmf

STEP_SIZE, STEPS = 0.14, 200


def main(figure: str = "sharpness_along_training.png") -> dmf.SharpnessMonitor:
    """Train a deep linear network on noisy data, and draw its sharpness; the monitor."""
    torch.manual_seed(0)
    X = torch.randn(200, 10)
    Y = X @ torch.randn(10, 4) + torch.randn(200, 4)
    model = nn.Sequential(nn.Linear(10, 40), nn.Linear(40, 40), nn.Linear(40, 4))
    with torch.no_grad():
        for layer in model:
            layer.weight *= 1.5
    optimizer = torch.optim.SGD(model.parameters(), lr=STEP_SIZE)
    monitor = dmf.SharpnessMonitor(model, X, Y, every=1, reduction="mean")
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(X), Y).backward()
        optimizer.step()
        monitor.step()
    axes = monitor.plot(step_size=STEP_SIZE)
    axes.figure.savefig(figure)
    return monitor


if __name__ == "__main__":
    found = main(*sys.argv[1:])
    print(
        f"sharpness {found.values[0]:.3g} at the start, {found.values[-1]:.3g} at the end, ", end=""
    )
    print(f"2/η {2 / STEP_SIZE:.3g}")

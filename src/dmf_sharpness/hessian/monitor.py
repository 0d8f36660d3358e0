"""The sharpness along the training of a deep linear network, in anybody's loop of PyTorch."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dmf_sharpness.arguments import checked_integer, checked_number
from dmf_sharpness.hessian.any_point import sharpness_at
from dmf_sharpness.hessian.model_curvature import is_ordinary
from dmf_sharpness.hessian.points import PointSharpness
from dmf_sharpness.network.problem import Problem
from dmf_sharpness.network.reading import from_module


@dataclass
class SharpnessMonitor:
    """The largest Hessian eigenvalue of the whole loss, measured every so many training steps.

    The Hessian is that of the loss over the given data, whatever minibatches the training takes. Each
    measurement starts from the eigenvector of the one before, and is made in float64.

    Attributes:
        model: The network that is trained; its weights are read and not changed.
        inputs: The samples in rows, as in :func:`dmf_sharpness.from_module`.
        targets: What they are fitted to.
        every: The number of steps from one measurement to the next.
        reduction: ``sum`` or ``mean``, as in :func:`dmf_sharpness.from_module`.
        half: Whether the loss has a factor ½.
        tolerance: The wanted relative residual of the eigenvalue.
        steps: The steps after which the sharpness was measured; 0 is the start.
        values: The measured values; NaN where the weights are too large to compute with, as in a run
            that diverges.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        >>> X, Y = torch.randn(20, 3), torch.randn(20, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> monitor = SharpnessMonitor(model, X, Y, every=5, reduction="mean")
        >>> for _ in range(10):
        ...     optimizer.zero_grad()
        ...     nn.functional.mse_loss(model(X), Y).backward()
        ...     _ = optimizer.step()
        ...     monitor.step()
        >>> monitor.steps, len(monitor.values)
        ([0, 5, 10], 3)
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    every: int = 1
    reduction: str = "sum"
    half: bool = False
    tolerance: float = 1e-6
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    _step: int = field(default=0, repr=False)
    _last: PointSharpness | None = field(default=None, repr=False)
    _problem: Problem = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.every = checked_integer(self.every, "every", least=1)
        self.tolerance = checked_number(self.tolerance, "tolerance", above=0)
        self._problem = from_module(
            self.model,
            self.inputs,
            self.targets,
            reduction=self.reduction,
            half=self.half,
            promote=True,
        ).problem
        self._measure()

    def step(self) -> None:
        """Count a training step, and measure the sharpness if it is its turn.

        Raises:
            ValueError: The model or the data are not as :func:`dmf_sharpness.from_module` takes them.
        """
        self._step += 1
        if self._step % self.every == 0:
            self._measure()

    def plot(self, step_size: float | None = None, axes: Any = None) -> Any:
        """The sharpness over the steps, beside ``2/η``; it needs Matplotlib.

        Args:
            step_size: The step size ``η`` of plain gradient descent.
            axes: Where to draw; None makes a new figure.

        Returns:
            The axes.
        """
        if axes is None:
            from matplotlib import pyplot  # not needed for anything else here

            axes = pyplot.figure().add_subplot()
        axes.plot(self.steps, self.values, label="sharpness")
        if step_size is not None:
            limit = 2 / checked_number(step_size, "step_size", above=0)
            axes.axhline(limit, color="black", linestyle="--", label="2/η")
        axes.set_xlabel("step")
        axes.set_ylabel("largest Hessian eigenvalue")
        axes.legend()
        return axes

    def _measure(self) -> None:
        self.steps.append(self._step)
        self.values.append(torch.nan)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters()):
            return
        # The data are reduced once; only the weights are read anew.
        read = replace(from_module(self.model, promote=True), problem=self._problem)
        if is_ordinary(read):
            self._last = sharpness_at(read, tolerance=self.tolerance, start=self._last)
            self.values[-1] = float(self._last.value)

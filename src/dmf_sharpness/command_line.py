"""The command ``dmf-sharpness``: the sharpness of a deep linear network from a file of its weights.

The weights alone are enough, because every list of factors is a minimizer for the target that is its own
product. Files of PyTorch are read as weights only, so that no code in them runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from dmf_sharpness.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from dmf_sharpness.network.linear_model import LinearModel

READERS = (".safetensors", ".pt", ".pth", ".npz")
"""The kinds of files that are read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the file that the command line names and print the sharpness; the exit status.

    Args:
        arguments: Those of the command line; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="dmf-sharpness",
        description="The sharpness of a deep linear network from a file of its weights: the largest Hessian "
        "eigenvalue of the sum of squares, at the minimizer that the weights are for their own product. "
        "The network is taken to be linear, as a file does not say otherwise.",
    )
    parser.add_argument("file", type=Path, help=f"weights in {', '.join(READERS)}")
    parser.add_argument(
        "--data", type=Path, help="a file with inputs, and targets if you like, samples in rows"
    )
    parser.add_argument(
        "--reduction", choices=("sum", "mean"), default="sum", help="of the squares (default: sum)"
    )
    parser.add_argument("--half", action="store_true", help="a factor ½ in front of the loss")
    parser.add_argument(
        "--rtol",
        type=float,
        default=1e-3,
        help="how much of the value the residual may change, beside targets (default: 1e-3)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        result = measured(options.file, options.data, options.reduction, options.half, options.rtol)
        text = json.dumps(_plain(result)) if options.json else "\n".join(_lines(result))
        print(text)
    except BrokenPipeError:
        # The reader of the output has gone. Python would try to write to it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UserError, ValueError, TypeError, OSError, MemoryError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        print(f"dmf-sharpness: {' '.join(message.split())}", file=sys.stderr)
        return 1
    return 0


def measured(
    file: Path, data: Path | None, reduction: str, half: bool, rtol: float
) -> dict[str, object]:
    """What the command prints.

    Raises:
        UserError: A file cannot be read, or is not what is expected.
        TypeError: See :func:`dmf_sharpness.from_module`.
        ValueError: See there and :func:`dmf_sharpness.sharpness`.
    """
    from dmf_sharpness.hessian.layers import layer_curvature
    from dmf_sharpness.hessian.sharpness import sharpness
    from dmf_sharpness.network.balance import relative_products
    from dmf_sharpness.network.factors import widths
    from dmf_sharpness.network.reading import from_module

    samples = {} if data is None else _samples(data)
    model = from_module(
        read_tensors(file),
        samples.get("inputs"),
        samples.get("targets"),
        reduction=reduction,
        half=half,
        promote=True,
    )
    found = sharpness(model, rtol=rtol)
    flat = _flat_sharpness(model)
    alone = model.plain and data is None
    return {
        "file": str(file),
        "widths": list(widths(model.factors)),
        "biases": [b is not None for b in model.biases],
        "tied": model.tied,
        "inputs": "unit vectors" if data is None else str(data),
        "loss": model.loss,
        "sharpness": found.value,
        "stability_limit": found.stability_limit,
        "converged": found.converged,
        "misfit": found.misfit,
        "flat_sharpness": flat,
        "relative_excess": float(found.value) / flat - 1 if flat else None,
        "relative_products": relative_products(model.factors).tolist() if alone else None,
        "layer_sharpness": None
        if model.tied
        else [block.sharpness for block in layer_curvature(model)],
    }


def read_tensors(file: Path) -> Mapping[str, Tensor] | list[Tensor]:
    """The tensors of a file with their names, in the order of the layers.

    Raises:
        UserError: The file is of another kind, damaged, empty, or a pickle that would run code.
        OSError: It cannot be read.
    """
    kind = file.suffix
    if kind not in READERS:
        raise UserError(
            f"{file}: expected a file in {', '.join(READERS)}, got {kind or 'no suffix'}"
        )
    if not file.stat().st_size:
        raise UserError(f"{file}: expected weights, got an empty file")
    read = {".safetensors": _safetensors, ".npz": _npz}.get(kind, _pickle)
    tensors = read(file)
    if not tensors:
        raise UserError(f"{file}: expected weights, got none")
    return tensors


def _safetensors(file: Path) -> Mapping[str, Tensor]:
    """A file does not keep the order of the names, so ``layers.2`` is put before ``layers.10``."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file}: expected a file of safetensors, got {error}") from error
    return {name: tensors[name] for name in sorted(tensors, key=_with_numbers)}


def _with_numbers(name: str) -> list[tuple[int, str]]:
    """A key for sorting by which numbers inside names count as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _npz(file: Path) -> Mapping[str, Tensor]:
    import numpy as np
    import torch

    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (ValueError, TypeError, BadZipFile, AttributeError) as error:
        raise UserError(f"{file}: expected arrays of numbers, got something else") from error


def _pickle(file: Path) -> Mapping[str, Tensor] | list[Tensor]:
    import torch

    try:
        # A pickle that torch.save has not written is warned of before it is refused.
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # A damaged pickle may raise anything. What an honest one with other objects in it raises takes
    # many lines, of which the first speak of a way to run its code.
    except Exception as error:
        raise UserError(
            f"{file}: expected weights alone, as torch.save(model.state_dict(), …) writes them, got a "
            "damaged file or one with other objects, which are not loaded"
        ) from error
    if isinstance(found, torch.Tensor):
        return [found]
    if not isinstance(found, Mapping | list):
        raise UserError(f"{file}: expected a state dict, got {type(found).__name__}")
    return found


def _samples(data: Path) -> Mapping[str, Tensor]:
    samples = read_tensors(data)
    if not isinstance(samples, Mapping) or "inputs" not in samples:
        raise UserError(f"{data}: expected tensors with the names inputs and targets, got others")
    for name in samples:
        if name not in ("inputs", "targets"):
            raise UserError(f"{data}: expected inputs and targets, got {name!r} as well")
    return samples


def _flat_sharpness(model: LinearModel) -> float | None:
    """The least sharpness with this product and data, or None where no closed form is known."""
    from dmf_sharpness.network.balance import flat_sharpness
    from dmf_sharpness.network.factors import end_to_end

    if not model.plain:
        return None
    product, root = end_to_end(model.factors), model.problem.input_root
    try:
        return float(flat_sharpness(product, len(model.factors), input_root=root))
    except ValueError:
        return None


def _plain(result: Mapping[str, object]) -> dict[str, object]:
    """The result with None for numbers that JSON does not have, such as an infinite step size."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in result.items()
    }


def _lines(result: Mapping[str, object]) -> Iterator[str]:
    """The result as text, a line for each quantity."""
    for name, value in result.items():
        yield f"{name.replace('_', ' '):<18} {_shown(name, value)}"


def _shown(name: str, value: object) -> str:
    if value is None:
        return "–"
    if name == "widths" and isinstance(value, list):
        return "-".join(map(str, value))
    if isinstance(value, list):
        return " ".join(_shown("", item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())

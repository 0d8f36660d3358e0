"""Arguments in another dress, at the ends of the range, or spoiled."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import torch
from hypothesis import strategies as st

from dmf_sharpness.descent.state import Minibatch

TENSOR = torch.Tensor


def first_entry(W):
    return W[0][:, 0, :1]


def two_norms(W):
    return torch.stack([W[0].square().sum((1, 2)), W[-1].square().sum((1, 2))], 1)


def one_dimension(W):
    return W[0][:, 0, 0]


def single_precision(W):
    return W[0][:, 0].float()


def array(W):
    return W[0][:, 0].numpy()


MEASURES, BAD_MEASURES = [first_entry, two_norms], [one_dimension, single_precision, array]


# The same values in another dress.


class Image(TENSOR):
    """A subclass, as other libraries have."""


DRESSES = {
    "plain": lambda x: x,
    "graph": lambda x: x.clone().requires_grad_() * 1.0,
    "parameter": lambda x: torch.nn.Parameter(x),
    "imaginary": lambda x: torch.complex(x, -x).conj().imag,
    "sliced": lambda x: torch.stack([x, x], -1)[..., 0],
    "inside": lambda x: torch.nn.functional.pad(x, (1, 2))[..., 1:-2] if x.ndim else x,
    "transposed": lambda x: x.mT.contiguous().mT if x.ndim > 1 else x,
    "offset": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].reshape(x.shape),
    "backwards": lambda x: (
        torch.from_numpy(np.array(x.numpy()[..., ::-1])).flip(-1) if x.ndim else x
    ),
    "subclass": lambda x: x.as_subclass(Image),
}
MASK_DRESSES = [name for name in DRESSES if name not in ("graph", "parameter", "imaginary")]
INTEGER_DRESSES = [int, np.int64, np.array, torch.tensor]
NUMBER_DRESSES = [float, np.float64, np.array, lambda x: torch.tensor(x, dtype=torch.float64)]


def dressed(draw, value):
    """The same value, as one might have it."""
    if isinstance(value, TENSOR):
        dresses = MASK_DRESSES if value.dtype == torch.bool else list(DRESSES)
        return DRESSES[draw(st.sampled_from(dresses))](value)
    if isinstance(value, bool):
        return draw(st.sampled_from([bool, np.bool_]))(value)
    if isinstance(value, int):
        dresses = INTEGER_DRESSES + ([np.int32] if abs(value) < 2**31 else [])
        return draw(st.sampled_from(dresses))(value)
    if isinstance(value, float):
        return draw(st.sampled_from(NUMBER_DRESSES))(value)
    if isinstance(value, list) and value and isinstance(value[0], TENSOR):
        worn = [dressed(draw, x) for x in value]
        return tuple(worn) if draw(st.booleans()) else worn
    if isinstance(value, list):
        return draw(st.sampled_from([list, tuple]))(value)
    return value


# Values that are no good, or of another size.

ODD = st.sampled_from(
    [None, True, False, "", "auto", "a\nb", b"3", [], (), {}, [None], [[1.0]], object(), int,
     0, -1, 1, 3, 2**31, 2**63, -(2**63), 1 << 3000, 1j, Decimal(1), Fraction(1, 2),
     0.0, -0.0, 2.5, -1e-3, 1e308, 5e-324, math.nan, math.inf, -math.inf,
     np.float32(0.5), np.float64("nan"), np.int8(-3), np.uint64(2**64 - 1),
     np.array([]), np.array([2]), np.array(1.5), np.ones((2, 2)), np.ones((2, 2), np.float32), np.array("x"),
     torch.tensor(2), torch.tensor(0.5), torch.tensor([1.0]), torch.tensor(math.nan), torch.tensor(True),
     torch.ones(2, 2), torch.ones(0, 0, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)]
)  # fmt: skip

CHANGES = {
    "float32": lambda x: x.float(),
    "half": lambda x: x.half(),
    "int": lambda x: x.long(),
    "bool": lambda x: x > 0,
    "complex": lambda x: torch.complex(x, x),
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "numpy": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "more dimensions": lambda x: x[None],
    "fewer dimensions": lambda x: x[0] if x.ndim else x,
    "flat": lambda x: x.flatten(),
    "transposed": lambda x: x.mT if x.ndim > 1 else x,
    "narrower": lambda x: x[..., :-1],
    "shorter": lambda x: x[:-1] if x.ndim else x,
    "wider": lambda x: torch.cat([x, x], -1) if x.ndim else x,
    "empty": lambda x: x[..., :0],
    "expanded": lambda x: x[..., :1].expand_as(x),
    "zero": torch.zeros_like,
    "negative": lambda x: -x,
    "tiny": lambda x: x * 1e-170,
    "subnormal": lambda x: torch.full_like(x, 5e-324),
    "large": lambda x: x * 1e120,
    "huge": lambda x: torch.full_like(x, 1.7e308),
    "nan": lambda x: with_entry(x, math.nan),
    "infinite": lambda x: with_entry(x, -math.inf),
}


def with_entry(x, value):
    x = x.clone()
    if x.numel():
        x.view(-1)[x.numel() // 2] = value
    return x


def spoiled(draw, value):
    """Another value in the place of one."""
    if draw(st.integers(0, 3)) == 0:
        return draw(ODD)
    if isinstance(value, TENSOR):
        return CHANGES[draw(st.sampled_from(list(CHANGES)))](value)
    if isinstance(value, list) and value and isinstance(value[0], TENSOR):
        i = draw(st.integers(0, len(value) - 1))
        changed = spoiled(draw, value[i])
        return draw(
            st.sampled_from(
                [[*value[:i], changed, *value[i + 1 :]], value[:i], value[::-1], [*value, changed], value[0],
                 iter(value), dict(enumerate(value)), torch.nn.ParameterList(value)]
            )
        )  # fmt: skip
    if isinstance(value, list):
        i = draw(st.integers(0, len(value) - 1))
        return [*value[:i], draw(ODD), *value[i + 1 :]]
    if isinstance(value, Minibatch):
        name = draw(st.sampled_from(list(vars(value))))
        return Minibatch(**(vars(value) | {name: spoiled(draw, getattr(value, name))}))
    if callable(value):
        return draw(st.sampled_from(BAD_MEASURES))
    return draw(ODD)


def extreme(draw, value):
    """The same kind of value, of another order of magnitude."""
    power = st.floats(-300, 300).map(lambda p: 10.0**p)
    if isinstance(value, TENSOR):
        return value * draw(power)
    if isinstance(value, list) and value and isinstance(value[0], TENSOR):
        if draw(st.booleans()):
            common = draw(power)
            return [x * common for x in value]
        return [x * draw(power) for x in value]
    if isinstance(value, float):
        return value * draw(power)
    return value


NUMERIC = ("factors", "target", "input_root", "input_gram", "step_size", "reference", "directions", "a",
           "step_ratio", "sharpness", "spread", "model", "inputs", "targets")  # fmt: skip

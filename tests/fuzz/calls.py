"""Calls of each public function: plain, in another dress, extreme, or spoiled."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st

from dmf_sharpness.compiled import lanes
from dmf_sharpness.descent.state import Minibatch
from dmf_sharpness.network.problem import Problem
from tests.fuzz.changes import MEASURES, NUMERIC, dressed, extreme, spoiled

TENSOR = torch.Tensor


@dataclass(frozen=True)
class Call:
    """One call: what is given, and the same before anything was done to it."""

    function: str
    kind: str
    given: dict[str, Any]
    plain: dict[str, Any]

    def __repr__(self):
        given = ", ".join(f"{name}={told(value)}" for name, value in self.given.items())
        return f"{self.function}({given})  # {self.kind}"


def told(value):
    """A value in one line."""
    if isinstance(value, TENSOR):
        try:
            numbers = value.detach().double().flatten()[:4].tolist()
        except Exception:
            numbers = "…"
        grad = ", grad" if value.requires_grad else ""
        return f"<{value.dtype} {tuple(value.shape)} {value.layout} {numbers}{grad}>"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(told, value))})"
    if isinstance(value, Minibatch):
        return f"Minibatch({', '.join(told(v) for v in vars(value).values())})"
    try:
        return " ".join(f"{type(value).__name__} {value!r}".split())[:200]
    except ValueError:  # an integer of thousands of digits
        return type(value).__name__


def matrices(seed, *shapes):
    """Tensors of normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


seeds = st.integers(0, 10_000)


@st.composite
def networks(draw, least=1, most=4, widest=4):
    """Widths of 1 to 4 layers."""
    return tuple(draw(st.lists(st.integers(1, widest), min_size=least + 1, max_size=most + 1)))


@st.composite
def chains(draw, widths, batch=(), scale=1.0):
    """Factors of given widths; now and then one is zero, of rank one, or all equal."""
    shapes = [(*batch, rows, columns) for columns, rows in pairwise(widths)]
    W = [scale * layer for layer in matrices(draw(seeds), *shapes)]
    if draw(st.integers(0, 5)) == 0:
        i = draw(st.integers(0, len(W) - 1))
        change = draw(st.sampled_from(["zero", "thin", "equal"]))
        if change == "zero":
            W[i] = torch.zeros_like(W[i])
        elif change == "thin":
            W[i] = W[i][..., :1] * W[i][..., :1, :]
        else:
            W[i] = torch.full_like(W[i], 0.5)
    return W


@st.composite
def problems(draw, batched=True, least=1):
    """Factors, and sometimes a Gram matrix or a root of one."""
    widths = draw(networks(least))
    batch = draw(st.sampled_from([(), (), (1,), (3,), (17,), (2, 2)])) if batched else ()
    found = {"factors": draw(chains(widths, batch))}
    kind = draw(st.integers(0, 5))
    if kind <= 1:
        (root,) = matrices(draw(seeds), (widths[0], draw(st.integers(1, 5))))
        found |= {"input_root": root} if kind else {"input_gram": root @ root.mT}
    return found


def fitting_methods(factors):
    """Methods of ``sharpness`` that take factors of these shapes."""
    # Not when this module is imported: the kernels may be replaced until then.
    found = ["compiled"] if lanes.available() else []
    found += ["auto", "dense", "batched", "lanczos", "low-rank"]
    found += ["scalar"] if factors[0].shape[-1] == factors[-1].shape[-2] == 1 else []
    return found + ([f"depth-{len(factors)}"] if len(factors) <= 2 else [])


def product(factors):
    """The factors' product."""
    result = factors[0]
    for W in factors[1:]:
        result = W @ result
    return result


@st.composite
def of_sharpness(draw):
    found = draw(problems())
    if draw(st.booleans()):
        found["method"] = draw(st.sampled_from(fitting_methods(found["factors"])))
    if draw(st.integers(0, 3)) == 0:
        found["target"] = product(found["factors"])
    if draw(st.integers(0, 3)) == 0:
        found["tolerance"] = draw(st.sampled_from([1e-8, 1e-10, 1e-3]))
    return found


@st.composite
def of_sharpness_at(draw):
    widths = draw(networks(most=3, widest=3))
    found = {
        "factors": draw(chains(widths)),
        "target": matrices(draw(seeds), (widths[-1], widths[0]))[0],
    }
    kind = draw(st.integers(0, 5))
    if kind <= 1:
        (root,) = matrices(draw(seeds), (widths[0], draw(st.integers(1, 5))))
        found |= {"input_root": root} if kind else {"input_gram": root @ root.mT}
    most = sum(W.numel() for W in found["factors"])
    found |= {"count": draw(st.integers(1, min(3, most))), "lowest": draw(st.booleans())}
    return found


@st.composite
def of_eigenvectors(draw):
    found = draw(problems(batched=False))
    if draw(st.booleans()):
        found["count"] = draw(st.integers(1, 3))
    return found


@st.composite
def of_factors(draw):
    return {"factors": draw(problems())["factors"]}


@st.composite
def of_is_flat(draw):
    found = {"factors": draw(chains(draw(networks())))}
    if draw(st.booleans()):
        found["rtol"] = draw(st.sampled_from([0.0, 1e-10, 0.5, 1e6]))
    return found


@st.composite
def of_flat_sharpness(draw):
    shape = (*draw(st.sampled_from([(), (3,)])), draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return {"target": matrices(draw(seeds), shape)[0], "depth": draw(st.integers(1, 30))}


@st.composite
def targets(draw, rank=None):
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rank = rank or draw(st.integers(1, min(rows, columns)))
    left, right = matrices(draw(seeds), (rows, rank), (rank, columns))
    return left @ right, min(rank, rows, columns)


@st.composite
def of_balanced(draw, seeded=True):
    target, rank = draw(targets())
    widths = draw(st.lists(st.integers(rank, 6), min_size=1, max_size=4))
    return {"target": target, "widths": widths} | ({"seed": draw(seeds)} if seeded else {})


@st.composite
def of_trace_flat_ratio(draw):
    return {"target": draw(targets())[0], "depth": draw(st.integers(2, 30))}


@st.composite
def of_random(draw):
    return draw(of_balanced()) | (
        {"spread": draw(st.floats(0, 0.6))} if draw(st.booleans()) else {}
    )


@st.composite
def of_with_sharpness(draw):
    found = draw(of_balanced())
    depth = len(found["widths"]) + 1
    top = float(torch.linalg.matrix_norm(found["target"], ord=2))
    flat = 2 * depth * top ** (2 - 2 / depth)
    return found | {"sharpness": flat * draw(st.floats(1.0, 30.0))}


@st.composite
def of_bottlenecked(draw):
    rows, columns = draw(st.integers(2, 4)), draw(st.integers(2, 4))
    (target,) = matrices(draw(seeds), (rows, columns))
    widths = [
        *draw(st.lists(st.integers(1, 6), max_size=3)),
        draw(st.integers(1, min(rows, columns) - 1)),
    ]
    return {"target": target, "widths": widths, "seed": draw(seeds)}


@st.composite
def of_landing(draw):
    widths = draw(networks(least=2, most=3))
    batch = draw(st.sampled_from([(), (3,)]))
    W = matrices(draw(seeds), *[(*batch, rows, columns) for columns, rows in pairwise(widths)])
    found = {"factors": W, "target": product(W)}
    if draw(st.integers(0, 3)) == 0:
        (root,) = matrices(draw(seeds), (widths[0], widths[0]))
        found |= {"input_root": root, "target": product(W) @ root}
    if draw(st.booleans()):
        found["refined"] = draw(st.booleans())
        found["momentum"] = draw(st.sampled_from([0.0, 0.5, 0.99]))
    return found


@st.composite
def of_predict_landing(draw):
    a, ratio = draw(st.floats(-1e3, 1e3)), 1 + draw(st.floats(0, 1.5))
    if draw(st.booleans()):
        return {"a": a, "step_ratio": ratio}
    many = torch.linspace(1, ratio, 5, dtype=torch.float64)
    return {"a": a, "step_ratio": many if draw(st.booleans()) else many.numpy()}


@st.composite
def of_descent(draw, widest=4, deepest=4, batches=(1, 2, 5, 8, 9, 17, 70)):
    widths = draw(networks(most=deepest, widest=widest))
    batch = draw(st.sampled_from(batches))
    N = sum(a * b for a, b in pairwise(widths))
    found = {"factors": draw(chains(widths, (batch,), 0.5))}
    r = widths[0]
    if draw(st.integers(0, 3)) == 0:
        r = draw(st.integers(1, 5))
        (found["input_root"],) = matrices(draw(seeds), (widths[0], r))
    lead = draw(st.sampled_from([(), (), (1,), (batch,)]))
    (target,) = matrices(draw(seeds), (*lead, widths[-1], r))
    found["target"] = 0 * target if draw(st.integers(0, 9)) == 0 else target
    eta = 10.0 ** draw(st.floats(-4, 0.5))
    found["step_size"] = draw(
        st.sampled_from(
            [eta, [eta] * batch, torch.linspace(eta / 2, eta, batch, dtype=torch.float64)]
        )
    )
    found["steps"] = draw(st.sampled_from([1, 2, 3, 17, 99, 100, 101, 230]))
    if draw(st.booleans()):
        found["observe_every"] = draw(st.sampled_from([1, 2, 7, 50, 2**63 - 1]))
        found["keep_path"] = draw(st.booleans())
        if draw(st.booleans()):
            shape = draw(st.sampled_from([(N,), (1, N), (batch, N)]))
            (found["reference"],) = matrices(draw(seeds), shape)
        if draw(st.booleans()):
            (found["directions"],) = matrices(draw(seeds), (batch, draw(st.integers(0, 3)), N))
        if draw(st.booleans()):
            found["measure"] = draw(st.sampled_from(MEASURES))
    if draw(st.booleans()):
        found["momentum"] = draw(st.floats(0, 0.95))
        found["nesterov"] = found["momentum"] > 0 and draw(st.booleans())
    if draw(st.integers(0, 4)) == 0:
        found["engine"] = draw(st.sampled_from(["auto", "torch"]))
    if draw(st.integers(0, 9)) == 0:
        count = draw(st.integers(1, 6))
        X, Y = matrices(draw(seeds), (widths[0], count), (widths[-1], count))
        found["minibatch"] = Minibatch(X, Y, draw(st.integers(1, count)), draw(seeds))
    elif draw(st.integers(0, 4)) == 0:
        (weights,) = matrices(draw(seeds), (*lead, widths[-1], r))
        weights = weights.abs() + (weights.abs() < 0.01)
        kept = weights if draw(st.booleans()) else weights.masked_fill(weights < 0.4, 0.0)
        kept[..., 0, 0] = 1.0
        found["observed"] = kept if draw(st.booleans()) else kept > 0
    return found


@st.composite
def of_stacks(draw):
    """Single networks and stacks for the compiled kernels of sharpness."""
    widths = draw(networks(least=1, most=8, widest=12))
    batch = draw(st.sampled_from([(), (), (1,), (3,), (9,), (17,)]))
    found = {
        "factors": draw(chains(widths, batch)),
        "method": "batched" if batch else draw(st.sampled_from(["auto", "compiled", "low-rank"])),
    }
    if draw(st.booleans()):
        (found["input_root"],) = matrices(draw(seeds), (widths[0], widths[0]))
    return found


@st.composite
def of_start(draw):
    kind = draw(st.sampled_from(["fan_in", "xavier", "orthogonal", "small", "identity"]))
    return {"widths": draw(networks(widest=6)), "kind": kind, "seed": draw(seeds)}


@st.composite
def of_polish(draw):
    widths = draw(networks())
    shapes = [(rows, columns) for columns, rows in pairwise(widths)]
    W = matrices(draw(seeds), *shapes)
    noise = matrices(draw(seeds), *shapes)
    near = [layer + 1e-7 * change for layer, change in zip(W, noise, strict=True)]
    return {"factors": near, "problem": Problem(product(W))}


@st.composite
def of_model(draw, data=False):
    widths = draw(networks(least=1))
    found = {"model": draw(chains(widths))}
    if data:
        count = draw(st.integers(1, 6))
        X, Y = matrices(draw(seeds), (count, widths[0]), (count, widths[-1]))
        found |= {"inputs": X, "targets": Y} if draw(st.booleans()) else {"inputs": X}
        found |= {"reduction": draw(st.sampled_from(["sum", "mean"])), "half": draw(st.booleans())}
    return found


PLAIN = {
    "balance_is_necessary": of_balanced(seeded=False),
    "balanced_minimizer": of_balanced(),
    "bottlenecked_minimizer": of_bottlenecked(),
    "end_to_end": of_factors(),
    "flat_minimizer": of_balanced(),
    "flat_sharpness": of_flat_sharpness(),
    "from_module": of_model(data=True),
    "gradient_descent": of_descent(),
    "hessian_diagonal": of_model(),
    "hessian_eigenvectors": of_eigenvectors(),
    "hessian_frobenius_norm": problems(),
    "hessian_spectrum": problems(batched=False),
    "hessian_trace": problems(),
    "is_flat": of_is_flat(),
    "landing_coefficient": of_landing(),
    "layer_curvature": of_model(),
    "left_factors": of_factors(),
    "minimizer_with_sharpness": of_with_sharpness(),
    "polish": of_polish(),
    "predict_landing": of_predict_landing(),
    "random_minimizer": of_random(),
    "right_factors": of_factors(),
    "sharpness": of_sharpness(),
    "sharpness_at": of_sharpness_at(),
    "spectral_products": of_factors(),
    "standard_start": of_start(),
    "trace_flat_minimizer": of_balanced(),
    "trace_flat_ratio": of_trace_flat_ratio(),
}
FUNCTIONS = tuple(PLAIN)
# For the compiled kernels alone: more blocks than there are parts for two threads, and odd sizes.
LARGE = {
    "gradient_descent": of_descent(widest=12, deepest=8, batches=(1, 3, 7, 9, 150)),
    "sharpness": of_stacks(),
}


@st.composite
def calls(draw, function, large=False):
    """A call of one function."""
    plain = draw((LARGE if large else PLAIN)[function])
    numeric = [name for name in plain if name in NUMERIC]
    kinds = ["plain", "dressed", "dressed", "spoiled", "spoiled", "spoiled"]
    kind = draw(st.sampled_from([*kinds, "extreme"] if numeric else kinds))
    given = dict(plain)
    if kind == "dressed":
        given = {name: dressed(draw, value) for name, value in plain.items()}
    elif kind == "extreme":
        for name in draw(st.lists(st.sampled_from(numeric), min_size=1, unique=True)):
            given[name] = extreme(draw, plain[name])
    elif kind == "spoiled":
        for name in draw(
            st.lists(st.sampled_from(list(plain)), min_size=1, max_size=2, unique=True)
        ):
            given[name] = spoiled(draw, plain[name])
        if type(given.get("steps")) is int and 10**5 < given["steps"] < 2**63:
            given["steps"] = 2**63  # steps that are taken take their time
        if draw(st.integers(0, 9)) == 0:
            given.pop(draw(st.sampled_from(list(given))))  # back to its default, or missing
    return Call(function, kind, given, plain)

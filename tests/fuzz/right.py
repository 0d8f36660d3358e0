"""The right number from each function, or an honest word that there is none."""

from itertools import pairwise

import numpy as np
import torch

from tests.fuzz import oracles
from tests.fuzz.engines import right_descent
from tests.fuzz.oracles import Wide, close, in_range, wide
from tests.fuzz.outcomes import require


def right_sharpness(call, result):
    for value, converged, factors in members(result.value, result.converged, call.given["factors"]):
        K = oracles.curvature(factors, *roots(call))
        exact = oracles.eigenvalues(K)[-1]
        if not converged:
            require(call.kind == "extreme", f"not converged: {value}, right is {exact}")
            continue
        require(in_range(exact) or value == 0, f"converged at {value} beyond the range: {exact}")
        tolerance = max(
            1e-9, 3 * float(np.max(result.tolerance)) if call.given.get("tolerance") else 0
        )
        require(close(value, exact, tolerance), f"{value}, right is {exact}")
    if call.kind != "extreme" and call.given["factors"][0].ndim == 2 and result.value > 0:
        v = [wide(U) for U in result.eigenvector]
        require(abs(float(sum((U**2).sum() for U in v)) - 1) < 1e-6, "the eigenvector's length")
        require(float(result.gap) >= 0 or result.gap != result.gap, "the gap")


def roots(call):
    """The root of the Gram matrix, as an argument or none."""
    if call.given.get("input_root") is not None:
        return (call.given["input_root"],)
    gram = call.given.get("input_gram")
    if gram is None:
        return ()
    size = gram.abs().max().clamp(min=1e-300)
    values, vectors = torch.linalg.eigh(gram / size)
    root = torch.from_numpy((wide(vectors) * np.sqrt(wide(values.clamp(min=0)))).astype(np.float64))
    return (_Scaled(root, size),)


class _Scaled:
    """A matrix times the root of a number, for :func:`oracles.wide`."""

    def __init__(self, matrix, size):
        self.matrix, self.size = matrix, size

    def detach(self):
        return self

    def resolve_neg(self):
        return self

    def numpy(self):
        return wide(self.matrix) * np.sqrt(wide(self.size))


def members(values, flags, factors):
    """Each member of a batch, or the one there is."""
    shape = factors[0].shape[:-2]
    if not shape:
        return [(values, flags, factors)]
    flat = [W.reshape(-1, *W.shape[-2:]) for W in factors]
    return [
        (float(values.reshape(-1)[k]), bool(flags.reshape(-1)[k]), [W[k] for W in flat])
        for k in range(len(flat[0]))
    ]


def of_curvature(number, rtol=1e-8):
    """A property of one number made of ``2 Σ_i (L_iL_iᵀ) ⊗ (R_iᵀR_i)``."""

    def right(call, result):
        flags = torch.ones(call.given["factors"][0].shape[:-2], dtype=torch.bool)
        for value, _, factors in members(result, flags, call.given["factors"]):
            exact = number(oracles.curvature(factors, *roots(call)))
            if value != value:
                require(not in_range(exact), f"NaN, right is {exact}")
            else:
                require(close(value, exact, rtol), f"{value}, right is {exact}")

    return right


def right_spectrum(call, values):
    exact = oracles.eigenvalues(oracles.curvature(call.given["factors"], *roots(call)))[::-1]
    top = exact[0] if len(exact) else Wide(0)
    require(len(values) <= len(exact), "more eigenvalues than there are")
    for k, right in enumerate(exact):
        value = values[k].item() if k < len(values) else 0.0
        require(close(value, right, 1e-9, top), f"eigenvalue {k}: {value}, right is {right}")


def right_eigenvectors(call, result):
    values, vectors = result
    exact = oracles.eigenvalues(oracles.curvature(call.given["factors"], *roots(call)))[::-1]
    require(len(values) == len(vectors), "a vector for each value")
    for k, value in enumerate(values.tolist()):
        require(
            close(value, exact[k], 1e-7, exact[0]), f"eigenvalue {k}: {value}, right is {exact[k]}"
        )
    require(
        np.allclose(vectors @ vectors.mT, np.eye(len(values)), atol=1e-6), "orthonormal vectors"
    )


def right_point(call, result):
    exact = oracles.eigenvalues(
        oracles.hessian(call.given["factors"], call.given["target"], *roots(call))
    )
    if not result.converged:
        require(call.kind == "extreme", f"not converged: {result.value}")
        return
    size = np.abs(exact).max()
    require(close(result.value, exact[-1], 1e-7, size), f"{result.value}, right is {exact[-1]}")
    for k, value in enumerate(result.largest.tolist()):
        require(close(value, exact[-1 - k], 1e-7, size), f"{k}: {value}, right is {exact[-1 - k]}")
    if result.lowest is not None:
        require(close(result.lowest, exact[0], 1e-7, size), f"lowest: {result.lowest}")


def right_is_flat(call, flat):
    W, rtol = call.given["factors"], call.given.get("rtol", 1e-10)
    K = oracles.eigenvalues(oracles.curvature(W))[-1]
    least = (
        2
        * len(W)
        * oracles.spectral_norm(oracles.chain([wide(x) for x in W])) ** (2 - Wide(2) / len(W))
    )
    excess = K - (1 + Wide(rtol)) * least
    if abs(excess) > 1e-8 * K:
        require(flat == (excess < 0), f"{flat}, but λ is {K} and λ_flat {least}")


def right_flat_sharpness(call, result):
    target, depth = wide(call.given["target"]), call.given["depth"]
    stack = target.reshape(-1, *target.shape[-2:])
    for value, M in zip(np.atleast_1d(np.asarray(result)), stack, strict=True):
        exact = 2 * depth * oracles.spectral_norm(M) ** (2 - Wide(2) / depth)
        require(value != value or close(value, exact, 1e-10), f"{value}, right is {exact}")
        require(value == value or not in_range(exact), f"NaN, right is {exact}")


def right_products(call, result):
    W = call.given["factors"]
    flat = [x.detach().reshape(-1, *x.shape[-2:]) for x in W]
    for row, k in zip(result.detach().reshape(-1, len(W)), range(len(flat[0])), strict=True):
        layers = [wide(x[k]) for x in flat]
        for i, value in enumerate(row.tolist()):
            left = (
                oracles.spectral_norm(oracles.chain(layers[i + 1 :])) if i + 1 < len(W) else Wide(1)
            )
            right = oracles.spectral_norm(oracles.chain(layers[:i])) if i else Wide(1)
            exact = left * right
            require(value != value or close(value, exact, 1e-9), f"{value}, right is {exact}")
            require(value == value or not in_range(exact), f"NaN, right is {exact}")


def right_chain(call, result):
    W = call.given["factors"]
    flat = [x.detach().reshape(-1, *x.shape[-2:]) for x in W]
    parts = [result] if isinstance(result, torch.Tensor) else result
    for k in range(len(flat[0])):
        layers = [wide(x[k]) for x in flat]
        for i, part in enumerate(parts):
            inner = {
                "end_to_end": layers,
                "left_factors": layers[i + 1 :],
                "right_factors": layers[:i],
            }
            ours = part.detach().reshape(-1, *part.shape[-2:])[k]
            if inner[call.function]:
                exact = oracles.chain(inner[call.function])
                # A plain product: what is computed on the way must be in the range, too.
                sizes = [np.abs(x) for x in inner[call.function]]
                ways = [
                    oracles.chain(sizes[i:j]).max() for j in range(len(sizes) + 1) for i in range(j)
                ]
                bound = oracles.chain(sizes)
                fits = max(ways) < oracles.LARGEST and min(ways) > 1e-300
                good = np.abs(wide(ours) - exact) <= 1e-12 * bound.max()
                require(not fits or bool(good.all()), f"the product of {call.function}")


def right_minimizer(call, factors):
    W, target = [wide(x) for x in factors], wide(call.given["target"])
    shapes = [target.shape[1], *map(int, call.given["widths"]), target.shape[0]]
    require([x.shape for x in W] == [(b, a) for a, b in pairwise(shapes)], "shapes of the factors")
    error = oracles.norm(oracles.chain(W) - target)
    if call.function != "bottlenecked_minimizer":
        require(error <= 1e-11 * oracles.norm(target), f"misses the target by {error}")
    else:
        size = np.abs(target).max()
        kept = np.linalg.svd((target / size).astype(np.float64), compute_uv=False)[
            min(call.given["widths"]) :
        ]
        best = Wide(np.linalg.norm(kept)) * size
        require(
            abs(error - best) <= 1e-9 * oracles.norm(target), f"misses by {error}, best is {best}"
        )
    if call.function in ("balanced_minimizer", "flat_minimizer", "minimizer_with_sharpness"):
        value = oracles.eigenvalues(oracles.curvature(factors))[-1]
        depth = len(W)
        wanted = call.given.get("sharpness")
        least = 2 * depth * oracles.spectral_norm(target) ** (2 - Wide(2) / depth)
        wanted = least if wanted is None else Wide(float(wanted))
        require(close(value, wanted, 1e-10), f"sharpness {value}, wanted {wanted}")


def right_trace_flat_ratio(call, ratio):
    depth, M = int(call.given["depth"]), wide(call.given["target"])
    values = np.linalg.svd((M / np.abs(M).max()).astype(np.float64), compute_uv=False)
    share, (d_L, d_0) = values[0] / values.sum(), M.shape
    ends = share ** (2 / depth - 1) * (1 / d_0 + 1 / d_L) + (depth - 2) * share ** (2 / depth)
    exact = (d_0 * d_L) ** (1 / depth) * ends / depth
    require(close(Wide(ratio), Wide(exact), 1e-10), f"{ratio}, right is {exact}")


def right_balance_is_necessary(call, answer):
    """The three conditions, where rank and equality of the singular values are not in doubt."""
    require(isinstance(answer, bool), f"{answer!r} is no bool")
    M, widths = wide(call.given["target"]), [int(n) for n in call.given["widths"]]
    largest = np.abs(M).max() if M.size else 0
    values = np.linalg.svd((M / (largest or 1)).astype(np.float64), compute_uv=False)
    shares = values / (values[0] or 1)
    if len(widths) == 1 or not shares[0]:
        require(answer, "depth 2 or zero")
        return
    rank = int((shares > 1e-12).sum())
    in_doubt = ((shares > 1e-15) & (shares < 1e-9)).any() or 1e-11 < 1 - shares[rank - 1] < 1e-7
    if call.kind == "extreme" or in_doubt or "rtol" in call.given:
        return
    d_L, d_0 = M.shape
    ends = rank in (d_0, widths[0]) and rank in (d_L, widths[-1])
    wanted = bool(1 - shares[rank - 1] < 1e-9 and ends)
    require(answer is wanted, f"{answer}, right is {wanted}")


def right_landing_coefficient(call, a):
    numbers = torch.as_tensor(a)
    require(numbers.shape == call.given["factors"][0].shape[:-2], "the shape")
    require(call.kind == "extreme" or bool((~numbers.isinf()).all()), f"infinite: {a}")


def right_landing(call, end):
    a, ratio = (np.asarray(call.given[name], dtype=np.float64) for name in ("a", "step_ratio"))
    end = np.asarray(end)
    for a_k, c, found in np.nditer(np.broadcast_arrays(a, ratio, end)):
        start = 2 * float(a_k) * (float(c) - 1)
        require((found != found) == (start >= 1), f"{found} at w = {start}")
        require(found != found or found <= 1 + 1e-12, f"{found} is above the limit of stability")


def right_start(call, factors):
    widths = [int(n) for n in call.given["widths"]]
    wanted = list(zip(widths[1:], widths[:-1], strict=True))
    require([tuple(W.shape) for W in factors] == wanted, "the shapes")
    require(all(bool(W.isfinite().all()) for W in factors), "not finite")


def right_model(call, model):
    """The loss at the factors that were read, up to a constant, by the samples that were given."""
    given = call.given
    layers = [wide(W) for W in given["model"]]
    require(
        [W.tolist() for W in layers] == [wide(W).tolist() for W in model.factors], "the factors"
    )
    X = wide(given["inputs"]).T if given.get("inputs") is not None else None
    if call.kind == "extreme" or X is None:
        return
    entries = X.shape[1] * len(layers[-1])
    unit = (0.5 if given.get("half") else 1) / (entries if given.get("reduction") == "mean" else 1)
    gram = wide(model.problem.input_root @ model.problem.input_root.mT)
    require(np.allclose((gram - unit * X @ X.T).astype(np.float64), 0, atol=1e-9), "the inputs")


def right_polish(call, near):
    target = wide(call.given["problem"].target)
    error = oracles.norm(oracles.chain([wide(W) for W in near.factors]) - target)
    require(error <= 1e-10 * oracles.norm(target), f"misses the target by {error}")


def right_layers(call, blocks):
    layers = [wide(W) for W in call.given["model"]]
    for block in blocks:
        i = block.layer - 1
        left = oracles.spectral_norm(oracles.chain(layers[i + 1 :])) if i + 1 < len(layers) else 1
        right = oracles.spectral_norm(oracles.chain(layers[:i])) if i else 1
        require(close(block.sharpness, 2 * (left * right) ** 2, 1e-9), f"layer {i}")


def right_diagonal(call, parts):
    """Its sum is the trace."""
    exact = np.trace(oracles.curvature(call.given["model"]))
    total = sum(float(part.sum()) for part in parts)
    require(close(total, exact, 1e-9), f"the trace {total}, right is {exact}")


RIGHT = {
    "balance_is_necessary": right_balance_is_necessary,
    "balanced_minimizer": right_minimizer,
    "bottlenecked_minimizer": right_minimizer,
    "end_to_end": right_chain,
    "flat_minimizer": right_minimizer,
    "flat_sharpness": right_flat_sharpness,
    "from_module": right_model,
    "gradient_descent": right_descent,
    "hessian_diagonal": right_diagonal,
    "hessian_eigenvectors": right_eigenvectors,
    "hessian_frobenius_norm": of_curvature(oracles.norm),
    "hessian_spectrum": right_spectrum,
    "hessian_trace": of_curvature(np.trace),
    "is_flat": right_is_flat,
    "landing_coefficient": right_landing_coefficient,
    "layer_curvature": right_layers,
    "left_factors": right_chain,
    "minimizer_with_sharpness": right_minimizer,
    "polish": right_polish,
    "predict_landing": right_landing,
    "random_minimizer": right_minimizer,
    "right_factors": right_chain,
    "sharpness": right_sharpness,
    "sharpness_at": right_point,
    "spectral_products": right_products,
    "standard_start": right_start,
    "trace_flat_minimizer": right_minimizer,
    "trace_flat_ratio": right_trace_flat_ratio,
}

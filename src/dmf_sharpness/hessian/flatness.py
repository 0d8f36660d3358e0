"""The test for flat minimizers: a comparison of the sharpness with the least one."""

from torch import Tensor

from dmf_sharpness.arguments import checked_number
from dmf_sharpness.hessian.model_curvature import refuse_beside_model, without_biases
from dmf_sharpness.hessian.sharpness import sharpness
from dmf_sharpness.network.balance import least_sharpness, spectral_norm
from dmf_sharpness.network.curvature import check_single, checked_root
from dmf_sharpness.network.factors import Factors, checked_factors, end_to_end
from dmf_sharpness.network.linear_model import LinearModel
from dmf_sharpness.network.scaling import scaled_problem

ORDINARY_VALUES = 2.0**-200, 2.0**200
"""Between these bounds a sharpness is compared without scaling of the factors."""


def is_flat(
    factors: Factors | LinearModel,
    rtol: float = 1e-10,
    *,
    input_gram: Tensor | None = None,
    input_root: Tensor | None = None,
) -> bool:
    """Whether a minimizer attains the least sharpness, ``λ_max ≤ (1 + rtol) λ_flat``.

    The target is taken to be the product of the factors, so that every list of factors is a
    minimizer. Both sides are homogeneous in the factors, of the same degree. So they are compared
    at a common scale, and the factors may be of any size.

    Args:
        factors: ``[W_1 … W_L]`` of a single minimizer, ``W_i`` of shape ``(d_i, d_{i-1})``, float64; or
            the result of :func:`dmf_sharpness.from_module` for a network without biases, all of whose
            layers are trained, each on its own.
        rtol: The relative excess up to which a minimizer counts as flat, not negative.
        input_gram: ``G = X Xᵀ`` for training on data.
        input_root: A root of ``G`` instead of ``G``, ``S Sᵀ = G``, shape ``(d_0, n)``, such as ``X``.

    Raises:
        TypeError: A factor is not a float64 tensor, or ``rtol`` is not a number.
        ValueError: The shapes do not fit, values are not finite, the factors are a batch, ``rtol``
            is negative, or the sharpness cannot be computed, because the factors differ too much in
            size or because the iteration does not converge; or for the model no closed form of the least
            sharpness is known.

    >>> import torch
    >>> W_1 = torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))
    >>> W_2 = torch.diag(torch.tensor([2.0, 2.0], dtype=torch.float64))
    >>> is_flat([W_1, W_2]), is_flat([2 * W_1, W_2 / 2])
    (True, False)
    """
    rtol = checked_number(rtol, "rtol", least=0)
    if isinstance(factors, LinearModel):
        refuse_beside_model(input_gram=input_gram, input_root=input_root)
        factors, input_root = without_biases(factors)
    factors = checked_factors(factors)
    check_single(factors)
    root = checked_root(factors, input_gram, input_root)
    if root is not None:
        root = root / spectral_norm(root)  # both sides are of degree two in it
    s = sharpness(factors, input_root=root)
    if not s.converged or not ORDINARY_VALUES[0] < s.value < ORDINARY_VALUES[1]:
        scaled = scaled_problem(factors)
        if not scaled.possible:
            raise ValueError("factors: expected some of similar size, got too uneven ones")
        factors, s = scaled.factors, sharpness(scaled.factors, input_root=root)
    if not s.converged:
        raise ValueError(
            f"factors: expected a sharpness that converges, got a residual of {s.residual:.2g}"
        )
    least = float(least_sharpness(end_to_end(factors), len(factors), root))
    return float(s.value) <= (1 + rtol) * least

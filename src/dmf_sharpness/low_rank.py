"""The largest curvature of wide square networks, with the eigenmatrix kept as ``Y = P Qᵀ``.

The singular values of a top eigenmatrix fall fast, so a few columns suffice. With an orthonormal
``Q`` of ``k`` columns held, the operator ``Y ↦ 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i)`` restricted to ``P Qᵀ`` is

    ``K : P ↦ 2 Σ_i L_i L_iᵀ P C_i``,   ``C_i = (R_i Q)ᵀ(R_i Q)`` of order ``k``,

an eigenproblem of order ``d_L k``. One application is a backward sweep ``V_i = L_iᵀ P`` and a forward
one, ``Z ← W_{i} Z + V_i C_i``: ``4 L d² k`` operations, no product of two layers. Then ``P`` is held, and
so on in turn: every half-step can only raise the Rayleigh quotient. After each sweep the full defect
``2JJᵀY − λY`` is computed (:mod:`dmf_sharpness.certificate`), and its leading singular vectors enlarge
the bases. It stops when the defect is below the tolerance, or says that it did not get there.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_sharpness.certificate import defect_low_rank
from dmf_sharpness.chains import Chain, compressed, push_left, push_right
from dmf_sharpness.eigensolvers import top_eigenvector
from dmf_sharpness.factors import times

FIRST_RANK = 16
"""Columns to start with: they see several of the top eigenvectors when these lie close, and cost little
more than one where reading the layers from memory is what takes the time."""
GROWTH = 16
"""New columns per sweep at most: fewer would cost sweeps, more would slow each of them down."""
KRYLOV = 6
"""Krylov vectors of a half-step: it starts close, and each costs two passes over all layers."""
RESTARTS = 3
"""How often a larger eigenvalue than the first may turn up."""
ROUNDING_SHARE = 1e-2
"""Singular values of ``Y`` below this share of the wanted defect are dropped."""


@dataclass(frozen=True)
class LowRankPair:
    """An eigenvalue and its unit eigenmatrix ``P Qᵀ``.

    Attributes:
        value: The Rayleigh quotient, which is at most the largest eigenvalue.
        P: Left singular vectors times singular values, shape ``(d_L, k)``.
        Q: Right singular vectors, shape ``(d_0, k)``.
        defect: ``‖2JJᵀY − λY‖ / λ``; the residual in parameter space is at most that.
        sweeps: How many sweeps it took.
        defect_parts: The singular value decomposition of ``2JJᵀY − λY``, for the certificate.
    """

    value: float
    P: Tensor
    Q: Tensor
    defect: float
    sweeps: int
    defect_parts: tuple[Tensor, Tensor, Tensor]


def _half_step(
    layers: Chain,
    P: Tensor,
    Q: Tensor,
    tolerance: float,
    deflated: LowRankPair | None,
) -> tuple[float, Tensor]:
    """The best ``P`` for a held orthonormal ``Q``, started at ``P``: a value and ``(d_L, k)``."""
    grams = [X.mT @ X for X in push_right(layers, Q)]
    known = None if deflated is None else deflated.P @ (deflated.Q.mT @ Q)

    def restricted(P: Tensor) -> Tensor:
        V = push_left(layers, P)
        Z: Tensor | None = None
        for i, W in enumerate(layers.layers):
            if Z is not None:
                Z = times(W, Z)
            if layers.trained(i):
                term = V[i] @ grams[i]
                Z = term if Z is None else Z + term
        assert Z is not None
        if known is not None and deflated is not None:
            return 2 * Z - deflated.value * (known * P).sum() * known
        return 2 * Z

    return top_eigenvector(restricted, P, tolerance, KRYLOV)


def _start(layers: Chain, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Bases near the top left and right singular spaces, by subspace iteration.

    Each side iterates with ``Σ_i w_i (L_iL_iᵀ)``, the weights ``w_i`` the mean of ``R_iᵀR_i`` over the
    other side's basis.
    """
    W = layers.layers[0]
    k = min(FIRST_RANK, *layers.shape)
    bases = [
        torch.linalg.qr(torch.randn(d, k, dtype=W.dtype, generator=generator).to(W.device))[0]
        for d in layers.shape
    ]
    sides = [layers, layers.transposed()]
    for step in range(8):
        side = step % 2
        forward = sides[side]
        other = push_right(forward, bases[1 - side])
        V = push_left(forward, bases[side])
        Z: Tensor | None = None
        for i, W in enumerate(forward.layers):
            if Z is not None:
                Z = times(W, Z)
            if forward.trained(i):
                term = V[i] * other[i].square().sum() / k
                Z = term if Z is None else Z + term
        assert Z is not None
        bases[side] = torch.linalg.qr(Z)[0]
    return bases[0], bases[1]


def largest_curvature(
    layers: Chain,
    tolerance: float,
    max_rank: int = 64,
    max_sweeps: int = 30,
    deflated: LowRankPair | None = None,
    start: tuple[Tensor, Tensor] | None = None,
) -> LowRankPair:
    """The largest eigenvalue of ``2 J Jᵀ`` and its eigenmatrix in factors.

    Args:
        layers: The factors of one minimizer, with the input root in front.
        tolerance: Wanted ``‖2JJᵀY − λY‖ / λ``.
        max_rank: Columns of ``P`` and ``Q`` at most.
        max_sweeps: Sweeps at most.
        deflated: A known eigenpair to leave out, which makes this the next one.
        start: ``P`` and an orthonormal ``Q`` to start at.
    """
    P, Q = _start(layers, torch.Generator().manual_seed(0)) if start is None else start
    flipped = layers.transposed()
    turned = None if deflated is None else replace(deflated, P=deflated.Q, Q=deflated.P)
    best: LowRankPair | None = None
    goal = 1e-2
    for sweep in range(1, max_sweeps + 1):
        inner = max(0.3 * goal, 0.2 * tolerance)
        _, P = _half_step(layers, P, Q, inner, deflated)
        if not bool(P.any()):
            return LowRankPair(0.0, P, Q, 0.0, sweep, (P, P.new_zeros(P.shape[1]), Q))
        U, values, V = compressed(P, Q)
        value, Q = _half_step(flipped, V * values, U, inner, turned)
        U, values, V = compressed(U, Q, ROUNDING_SHARE * tolerance)
        P, Q = U * values, V
        parts = _deflated_defect(layers, P, Q, value, deflated)
        _, singular_values, right = parts
        defect = float(torch.linalg.vector_norm(singular_values)) / value if value > 0 else 0.0
        if best is None or defect < best.defect:
            best = LowRankPair(value, P, Q, defect, sweep, parts)
        if defect <= tolerance:
            break
        # As many new directions as it takes to leave a tenth of the defect, or what is tolerated.
        tail = singular_values.square().flip(0).cumsum(0).flip(0).sqrt()
        wanted = int((tail > max(0.1 * float(tail[0]), 0.2 * tolerance * value)).sum())
        room = min(max_rank - P.shape[1], GROWTH)
        if room <= 0 and sweep > 2 and defect > 0.5 * goal:
            break
        new = max(0, min(wanted, room))
        Q = torch.linalg.qr(torch.cat([Q, right[:, :new]], 1))[0]
        P = torch.cat([P, P.new_zeros(P.shape[0], Q.shape[1] - P.shape[1])], 1)
        goal = defect
    assert best is not None
    return best


def _deflated_defect(
    layers: Chain, P: Tensor, Q: Tensor, value: float, deflated: LowRankPair | None
) -> tuple[Tensor, Tensor, Tensor]:
    if deflated is None:
        return defect_low_rank(layers, P, Q, value)
    left, values, right = defect_low_rank(layers, P, Q, value)
    overlap = ((deflated.P.mT @ P) * (deflated.Q.mT @ Q)).sum()
    more = -deflated.value * overlap * deflated.P
    return compressed(torch.cat([left * values, more], 1), torch.cat([right, deflated.Q], 1))


def two_largest_curvatures(layers: Chain, tolerance: float) -> tuple[LowRankPair, float]:
    """The largest eigenpair, and the second eigenvalue, which shows that it is the largest.

    A small defect says that there is an eigenvalue, not that none is larger: where two lie close an
    iteration can settle on the wrong one. So what is left without the pair is searched too, to the
    root of the tolerance, which settles its value to about the tolerance. If that is larger, the
    search goes on from there.
    """
    pair = largest_curvature(layers, tolerance)
    second = largest_curvature(layers, tolerance**0.5, deflated=pair)
    for _ in range(RESTARTS):
        if second.value <= pair.value * (1 + tolerance):
            break
        Q = torch.linalg.qr(torch.cat([second.Q, pair.Q], 1))[0]
        P = second.P @ (second.Q.mT @ Q)
        pair = largest_curvature(layers, tolerance, start=(P, Q))
        second = largest_curvature(layers, tolerance**0.5, deflated=pair)
    return pair, second.value

"""Completions of a matrix that are flat, for two factors: convex problems, solved with lower bounds.

Let ``f = Σ_ij ω_ij (M − W_2W_1)_ij²``. With ``X = W_2W_1``, ``A = W_2W_2ᵀ`` and ``B = W_1ᵀW_1``, half the
Hessian at zero loss has the nonzero spectrum of ``G = ω^{1/2} ∘ (A ⊗ I + I ⊗ B) ∘ ω^{1/2}``, which is linear
in ``A`` and ``B``. The matrices ``X``, ``A``, ``B`` belong to factors of full width if and only if
``[A, X; Xᵀ, B]`` is positive semidefinite. So the least trace and the least top eigenvalue are values of
convex problems (section 3 of ``docs/missing_entries.md``).
"""

from dataclasses import dataclass

import numpy as np
import scipy.optimize

POWERS = (8, 64, 512, 4096)
"""The top eigenvalue is approached by ``tr(G^p)^{1/p}``, at most a factor of ``K^{1/p}`` above it."""
ITERATIONS = 10_000
"""The splitting for the nuclear norm takes at most so many steps."""
CLOSE = 1e-9
"""It ends when the nuclear norm is so close to its lower bound, relative to it."""

FLOOR = 1e-6
"""The least eigenvalue of ``B`` relative to that of the start keeps ``B`` invertible."""
CUTS = (0.0, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Entries of ``S`` below these shares of the largest one are left out in turn. Where few entries decide, the
others are errors of the descent, which the almost singular ``P`` and ``Q`` make large."""
ATTEMPTS, SOLVED = 2, 1e-3
"""The least sharpness is searched for again, at most so often, until it is so close to its bound."""
UNIFORM = 3e-4
"""The share of the uniform density in that of the lower bound on the sharpness."""


@dataclass(frozen=True)
class Completion:
    """A completion of a matrix, with factors.

    Attributes:
        factors: ``W_1`` and ``W_2``, square or as wide as the smaller end.
        bound: A lower bound on what was minimized, over all completions and factors.
    """

    factors: tuple[np.ndarray, np.ndarray]
    bound: float

    @property
    def product(self) -> np.ndarray:
        """``W_2 W_1``."""
        return self.factors[1] @ self.factors[0]


def balanced_factors(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``W_1 = Σ^{1/2}Vᵀ`` and ``W_2 = UΣ^{1/2}``, which have the least sum of squares for ``X``."""
    U, s, Vt = np.linalg.svd(X, full_matrices=False)
    return np.sqrt(s)[:, None] * Vt, U * np.sqrt(s)


def trace_flat_completion(M: np.ndarray, weights: np.ndarray) -> Completion:
    """The completion with the least trace of the Hessian, ``2(Σ_i r_i A_ii + Σ_j c_j B_jj)``.

    The weights of rows and columns are ``r_i = Σ_j ω_ij`` and ``c_j = Σ_i ω_ij``. The least trace for a
    product ``X`` is ``4‖D_r^{1/2} X D_c^{1/2}‖_*``, a weighted nuclear norm.

    Args:
        M: The matrix, shape ``(d_2, d_0)``, of which observed entries are read.
        weights: ``ω``, shape ``(d_2, d_0)``, with a positive weight in each row and column.
    """
    r, c = np.sqrt(weights.sum(1))[:, None], np.sqrt(weights.sum(0))
    X, bound = least_nuclear_norm(r * M * c, weights > 0)
    W_1, W_2 = balanced_factors(X)
    return Completion((W_1 / c, W_2 / r), 4 * bound)


def least_nuclear_norm(M: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, float]:
    """The completion with the least nuclear norm, and a lower bound on that norm.

    Douglas–Rachford splitting: projections on the completions alternate with soft thresholds of the
    singular values. A matrix ``S`` on the observed entries with ``‖S‖₂ ≤ 1`` gives the bound ``⟨S, M⟩``.

    Args:
        M: Shape ``(m, n)``, of which observed entries are read.
        observed: A mask, shape ``(m, n)``.
    """
    known = np.where(observed, M, 0.0)
    step = 0.3 * np.linalg.norm(known, 2)
    Z, bound = known.copy(), 0.0
    for k in range(ITERATIONS):
        X = np.where(observed, known, Z)
        U, s, Vt = np.linalg.svd(2 * X - Z, full_matrices=False)
        if k % 10 == 0:
            S = (X - Z) / step
            size = np.linalg.norm(S, 2)
            bound = max(bound, float((S * known).sum() / max(size, 1.0)))
            if np.linalg.norm(X, "nuc") <= (1 + CLOSE) * bound:
                break
        Z = Z + (U * np.maximum(s - step, 0)) @ Vt - X
    return X, bound


def flat_completion(M: np.ndarray, weights: np.ndarray, start: np.ndarray) -> Completion:
    """The completion with the least sharpness, by descent on ``X`` and ``B`` for growing powers ``p``.

    For given ``X`` and ``B`` the least ``A`` is ``XB⁻¹Xᵀ``, and ``λ_max(G)`` is convex in ``(X, B)``. Any
    ``ρ ⪰ 0`` with ``tr ρ = 1`` bounds it from below by ``⟨ρ, G⟩ = ⟨P, A⟩ + ⟨Q, B⟩``, whose minimum is
    at least ``2⟨S, M⟩`` for any ``S`` on the observed entries with ``‖P^{−1/2}SQ^{−1/2}‖₂ ≤ 1``.

    Args:
        M: The matrix, shape ``(m, n)``, of which observed entries are read.
        weights: ``ω``, shape ``(m, n)``, with a positive weight in each row and column.
        start: A completion of full rank, to start from.
    """
    best = _descended(M, weights, start)
    for attempt in range(ATTEMPTS):
        # Descent can get stuck where ``B`` is nearly singular. The bound tells, and another start helps.
        if best[0] <= (1 + SOLVED) * best[1].bound:
            break
        noise = np.random.default_rng(attempt).standard_normal(M.shape)
        other = np.where(weights > 0, M, start + np.linalg.norm(start) / len(start) * noise)
        again = _descended(M, weights, other)
        if again[0] * best[1].bound < best[0] * again[1].bound:
            best = again
    return best[1]


def _descended(M: np.ndarray, weights: np.ndarray, start: np.ndarray) -> tuple[float, Completion]:
    """The sharpness that was reached from one start, with the completion and the bound."""
    m, n = M.shape
    rows, columns = np.nonzero(weights)
    roots = np.sqrt(weights[rows, columns])
    same_column, same_row = columns[:, None] == columns, rows[:, None] == rows
    scale = roots[:, None] * roots
    row_pairs, column_pairs = np.ix_(rows, rows), np.ix_(columns, columns)
    hidden = weights == 0
    free = int(hidden.sum())
    floor = FLOOR * np.linalg.norm(start, 2) * np.eye(n)

    def unpacked(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        X = np.where(hidden, 0.0, M)
        X[hidden] = x[:free]
        return X, x[free:].reshape(n, n)

    def evaluated(x: np.ndarray, p: float) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """The logarithm of the value, its gradient, ``P``, and ``Q``."""
        X, C = unpacked(x)
        B = C @ C.T + floor
        XB = np.linalg.solve(B, X.T).T  # X B⁻¹
        A = XB @ X.T
        G = scale * (A[row_pairs] * same_column + B[column_pairs] * same_row)
        values, vectors = np.linalg.eigh(G)
        top = values[-1]
        powers = np.clip(values / top, 0, 1) ** (p - 1)
        total = (powers * np.clip(values / top, 0, 1)).sum()
        rho = scale * ((vectors * (powers / powers.sum())) @ vectors.T)
        P, Q = np.zeros((m, m)), np.zeros((n, n))
        np.add.at(P, row_pairs, rho * same_column)
        np.add.at(Q, column_pairs, rho * same_row)
        inner = powers.sum() / total / top
        slope_X = 2 * P @ XB * inner
        slope_B = (Q - XB.T @ P @ XB) * inner
        gradient = np.concatenate([slope_X[hidden], (2 * slope_B @ C).ravel()])
        return np.log(top) + np.log(total) / p, gradient, P, Q

    _, s, Vt = np.linalg.svd(start)
    x = np.concatenate([start[hidden], ((Vt.T * np.sqrt(s)) @ Vt).ravel()])
    for p in POWERS:
        x = scipy.optimize.minimize(
            lambda y, p=p: evaluated(y, p)[:2], x, jac=True, method="L-BFGS-B",
            options={"maxiter": 500, "maxfun": 1000, "maxcor": 30, "ftol": 1e-14, "gtol": 1e-9},
        ).x  # fmt: skip
    X, C = unpacked(x)
    reached, _, P, Q = evaluated(x, POWERS[-1])
    B = C @ C.T + floor
    S = np.where(hidden, 0.0, P @ np.linalg.solve(B, X.T).T)
    # A little of the uniform ρ makes P and Q definite, and lowers the bound by as little.
    P = (1 - UNIFORM) * P + UNIFORM * np.diag(weights.sum(1)) / len(rows)
    Q = (1 - UNIFORM) * Q + UNIFORM * np.diag(weights.sum(0)) / len(rows)
    left, right = _root_inverse(P), _root_inverse(Q)
    bound = 0.0
    for cut in CUTS:
        kept = np.where(np.abs(S) >= cut * np.abs(S).max(), S, 0.0)
        size = float(np.linalg.norm(left @ kept @ right, 2))
        bound = max(bound, 2 * float((kept * np.where(hidden, 0.0, M)).sum()) / max(size, 1.0))
    W_1 = np.linalg.cholesky(B).T
    completion = Completion((W_1, np.linalg.solve(W_1.T, X.T).T), 2 * bound)
    return 2 * float(np.exp(reached)), completion


def _root_inverse(P: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(P)
    return (vectors / np.sqrt(values)) @ vectors.T

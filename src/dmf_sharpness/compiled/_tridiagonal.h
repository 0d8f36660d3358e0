/* Symmetric tridiagonal matrices: the reduction of a matrix to one, and the top eigenpair. */
#ifndef DMF_TRIDIAGONAL_H
#define DMF_TRIDIAGONAL_H

#include <math.h>
#include <string.h>

#include "_rows.h"

/* The largest number of steps of Laguerre's method. It converges cubically, mostly in about six. */
#define LAGUERRE_STEPS 100
/* The largest order of a matrix of which the top eigenvector is computed. */
#define LONGEST_RUN 128
/* A number below this fraction of the whole is rounding. */
#define ROUNDING 1e-15
/* A squared norm below this is taken for zero. Its root, 2^-450, is far below the rounding error of the
 * least eigenvalue that is trusted, 2^-250 · 2^-52. */
#define NEGLIGIBLE 0x1p-900

/* T = Qᵀ A Q for a symmetric matrix A of order n by Householder's reflections (Golub & Van Loan,
 * Matrix Computations, section 8.3). A is destroyed.
 *
 * The last row is reduced first, so that what remains is the leading part of A, whose rows begin at
 * aligned addresses. The diagonal has n numbers, and off[j] = T_{j, j+1} is 0 for j = n − 1. Both and
 * ``scratch`` have room for two padded rows. */
static void reduce_to_tridiagonal(const matrix *A, double *diagonal, double *off,
                                  const matrix *Q, double *scratch)
{
    const int64_t n = A->rows, stride = A->stride;
    double *p = scratch, *weights = scratch + stride;
    memset(off, 0, stride * sizeof(double));
    memset(p, 0, 2 * stride * sizeof(double));
    for (int64_t i = n - 1; i > 1; i--) {
        const int64_t width = padded(i);
        double *v = A->at + i * stride; /* the reflection vector replaces the row */
        diagonal[i] = v[i];
        for (int64_t j = i; j < width; j++)
            v[j] = 0;
        const double size = sqrt(inner_product(width, v, v));
        off[i - 1] = v[i - 1] > 0 ? -size : size;
        v[i - 1] -= off[i - 1];
        const double square = inner_product(width, v, v);
        weights[i] = square > NEGLIGIBLE ? 2 / square : 0;
        if (!(weights[i] > 0)) {
            off[i - 1] = 0;
            continue;
        }
        /* A ← H A H = A − v wᵀ − w vᵀ with H = I − τ v vᵀ, p = τ A v and w = p − (τ/2) (vᵀp) v. */
        combine_rows(width, i, A->at, stride, v, p, 0);
        scale_rows(width, weights[i], p);
        const double part = -0.5 * weights[i] * inner_product(width, v, p);
        combine_rows(width, 1, v, stride, &part, p, 1);
        subtract_outer(i, width, v, p, A->at, stride);
        subtract_outer(i, width, p, v, A->at, stride);
    }
    diagonal[0] = A->at[0];
    if (n > 1) {
        diagonal[1] = A->at[stride + 1];
        off[0] = A->at[stride];
    }
    /* Q = H_{n−1} ⋯ H_2, where H_i changes the first i rows. */
    memset(Q->at, 0, n * stride * sizeof(double));
    for (int64_t i = 0; i < n; i++)
        Q->at[i * stride + i] = 1;
    for (int64_t i = 2; i < n; i++) {
        const int64_t width = padded(i);
        const double *v = A->at + i * stride;
        if (weights[i] > 0) {
            combine_rows(width, i, Q->at, stride, v, p, 0);
            scale_rows(width, weights[i], p);
            subtract_outer(i, width, v, p, Q->at, stride);
        }
    }
}

/* The steps of Laguerre's method from above to the largest eigenvalue of a tridiagonal matrix.
 *
 * With the pivots d_j of the elimination of T − x, p = Π d_j is the characteristic polynomial. Its
 * logarithmic derivative is G = Σ d_j′/d_j, and H = −G′. From the right of all zeros the method
 * converges monotonically, because they are real. */
static double largest_of_tridiagonal(int64_t m, const double *alpha, const double *beta)
{
    double x = alpha[0], size = 0;
    for (int64_t j = 0; j < m; j++) {
        const double reach = (j + 1 < m ? beta[j] : 0) + (j > 0 ? beta[j - 1] : 0);
        x = fmax(x, alpha[j] + reach);
        size = fmax(size, fabs(alpha[j]) + reach);
    }
    x += ROUNDING * size;
    for (int k = 0; k < LAGUERRE_STEPS; k++) {
        double G = 0, H = 0, inverse = 0, slope = 0, bend = 0;
        for (int64_t j = 0; j < m; j++) {
            const double u = j > 0 ? beta[j - 1] * beta[j - 1] * inverse : 0;
            const double pivot = alpha[j] - x - u;
            if (pivot >= 0) /* x is at the eigenvalue, up to rounding */
                return x;
            inverse = 1 / pivot;
            bend = u * (bend - 2 * slope * slope) * inverse;
            slope = (u * slope - 1) * inverse;
            G += slope;
            H += slope * slope - bend;
        }
        const double step = m / (G + sqrt(fmax(0, (m - 1) * (m * H - G * G))));
        if (!(step > ROUNDING * size))
            return x - step;
        x -= step;
    }
    return x;
}

/* The unit eigenvector s of the largest eigenvalue, by the elimination that starts with the last
 * row, which is stable for it. */
static void tridiagonal_vector(int64_t m, const double *alpha, const double *beta, double theta,
                               double *s)
{
    double pivot[LONGEST_RUN], sum = 1;
    for (int64_t j = m - 1; j > 0; j--) {
        pivot[j] = alpha[j] - theta - (j < m - 1 ? beta[j] * beta[j] / pivot[j + 1] : 0);
        if (pivot[j] > -ROUNDING * theta)
            pivot[j] = -ROUNDING * theta;
    }
    s[0] = 1;
    for (int64_t j = 1; j < m; j++) {
        s[j] = -beta[j - 1] * s[j - 1] / pivot[j];
        sum += s[j] * s[j];
    }
    for (int64_t j = 0; j < m; j++)
        s[j] /= sqrt(sum);
}

#endif

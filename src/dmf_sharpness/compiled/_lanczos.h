/* The largest eigenpair of Y ↦ Σ_i A_i Y B_i by a Lanczos iteration, on one thread or on several.
 *
 * Small Krylov vectors are reorthogonalized, which keeps the top Ritz pair accurate to rounding. Large
 * ones are not, as in _top_pairs.c: reading all of them in every step would take longer than the
 * products.
 *
 * All threads run the same code, each on its own rows. A thread needs only its own rows of A_i Y for its
 * own rows of A_i Y B_i, so they meet only once for each product of the operator, and for each inner
 * product. Every number is computed in the same way whatever the number of threads is: an entry of a
 * product is one sum, and large inner products are sums over rows. */
#ifndef DMF_LANCZOS_H
#define DMF_LANCZOS_H

#include "_team.h"
#include "_tridiagonal.h"

/* The number of Lanczos runs, each of at most LONGEST_RUN steps, before the call gives up. */
#define RUNS 4
/* The number of steps between two checks of convergence, which is also that before the first one; the
 * products of large matrices take longer than a check. */
#define CHECK_EVERY 4
#define CHECK_EVERY_LARGE 2
/* Up to this order the Krylov vectors stay in the cache, every one of them is made orthogonal to all
 * others, and one thread is enough. */
#define SMALL_ORDER 512

/* A symmetric tridiagonal matrix; at NULL there is none. */
typedef struct {
    double *diagonal, *off;
} tridiagonal;

/* The matrices of layer i, for i = 1 … L. */
typedef struct {
    matrix V;       /* L_iᵀ, shape (d_i, d_L) */
    matrix R;       /* R_i S, shape (d_{i−1}, d_0) */
    matrix A;       /* L_iL_iᵀ, shape (d_L, d_L) */
    matrix B;       /* (R_iS)ᵀ(R_iS), shape (d_0, d_0) */
    tridiagonal left, right; /* QᵀAQ instead of A, QᵀBQ instead of B, which are destroyed then */
    matrix X;       /* R_i S Yᵀ, shape (d_{i−1}, d_L) */
    matrix tangent; /* the derivative of W_i ⋯ W_1 S along Jᵀ Y, shape (d_i, d_0) */
} layer;

/* The operator Y ↦ Σ_i A_i Y B_i, with its scratch memory, as one thread sees it. An A_i or a B_i at NULL
 * is the identity. A layer with a tridiagonal matrix on one side has the identity on the other. */
typedef struct {
    int64_t depth;
    layer *layers;
    const double *known; /* a unit eigenmatrix that is subtracted, or NULL */
    double known_value;  /* its eigenvalue */
    matrix half, image; /* shape (d_L, d_0) */
    matrix across;      /* shape (d_0, d_L) */
    matrix grams[2];    /* shape (d_L, d_L) */
    matrix turned[2];   /* the Q of the tridiagonal matrices QᵀAQ on the left and on the right, or NULL */
    matrix square;      /* scratch of the larger of their shapes */
    double *krylov;     /* LONGEST_RUN + 1 matrices of the shape of half */
    int64_t scratch;    /* the size of the memory that each thread has for itself */
    double *strip;      /* that memory, mostly for a part of a right factor */
    double *sums[2];    /* inner products of rows, used in turn */
    int turn;
    int small; /* whether the order is at most SMALL_ORDER */
    member *self; /* this thread */
} workspace;

/* A matrix at ``*used`` numbers after ``start``, which is NULL while the numbers are counted. */
static matrix placed(double *start, int64_t *used, int64_t rows, int64_t columns)
{
    matrix made = {rows, columns, padded(columns), start ? start + *used : 0};
    *used += rows * made.stride;
    return made;
}

/* Put what the iteration needs into the memory from ``start`` on; returns how many numbers it takes. */
static int64_t lay_out_lanczos(double *start, int64_t rows, int64_t columns, int64_t widest,
                               int64_t threads, workspace *w)
{
    int64_t used = 0;
    w->half = placed(start, &used, rows, columns);
    w->image = placed(start, &used, rows, columns);
    w->scratch = padded(widest) * TILE_GROUPS * GROUP;
    w->strip = placed(start, &used, threads, w->scratch).at;
    for (int k = 0; k < 2; k++)
        w->sums[k] = placed(start, &used, 1, widest).at;
    w->krylov = placed(start, &used, (LONGEST_RUN + 1) * rows, columns).at;
    return used;
}

/* The rows of a matrix that this thread computes, and the number of those before them. */
static matrix own_rows(const workspace *w, const matrix *X, int64_t *before)
{
    const int64_t size = w->self->all->size;
    *before = 0;
    if (size == 1) /* divisions would take a few hundredths of the time of the smallest problems */
        return *X;
    const int64_t first = X->rows * w->self->index / size;
    const int64_t last = X->rows * (w->self->index + 1) / size;
    *before = first;
    return (matrix){last - first, X->columns, X->stride, X->at + first * X->stride};
}

/* The own rows of C = A B, or of C ← C + A B. */
static void multiply_own(const workspace *w, operand A, const matrix *B, const matrix *C, int add)
{
    int64_t before;
    matrix own = own_rows(w, C, &before);
    A.at += before * A.row;
    multiply_rows(A, B, &own, add, w->strip);
}

/* C = A B, or C ← C + A B. */
static void multiply(const workspace *w, operand A, const matrix *B, const matrix *C, int add)
{
    multiply_own(w, A, B, C, add);
    meet(w->self);
}

/* C = Xᵀ Y. */
static void multiply_transposed(const workspace *w, const matrix *X, const matrix *Y, const matrix *C)
{
    multiply(w, flipped(X->at, X->stride), Y, C, 0);
}

/* The own rows of to = fromᵀ. */
static void transpose_own(const workspace *w, const matrix *from, const matrix *to)
{
    int64_t before;
    matrix own = own_rows(w, to, &before), source = *from;
    source.at += before;
    transpose(&source, &own);
}

/* The sum of all products of the entries of X and Y, of which each thread knows its own rows. */
static double inner(workspace *w, const matrix *X, const matrix *Y)
{
    if (w->small)
        return inner_product(X->rows * X->stride, X->at, Y->at);
    int64_t before;
    const matrix own = own_rows(w, X, &before);
    const double *other = Y->at + before * Y->stride;
    /* The sums of the call before this one may still be read by other threads. */
    double *sums = w->sums[w->turn], total = 0;
    w->turn = !w->turn;
    for (int64_t i = 0; i < own.rows; i++)
        sums[before + i] =
            inner_product(own.stride, own.at + i * own.stride, other + i * own.stride);
    meet(w->self);
    for (int64_t i = 0; i < X->rows; i++)
        total += sums[i];
    return total;
}

/* Y ← Σ_j s_j K_j, or Y ← Y + Σ_j s_j K_j, for matrices K_j of the shape of Y that lie behind one another,
 * on the own rows. */
static void combine(const workspace *w, int64_t count, const double *K, const double *s, const matrix *Y,
                    int add)
{
    int64_t before;
    const matrix own = own_rows(w, Y, &before);
    combine_rows(own.rows * own.stride, count, K + before * own.stride, Y->rows * Y->stride, s, own.at,
                 add);
}

/* The own rows of X ← factor X. */
static void scale(const workspace *w, double factor, const matrix *X)
{
    int64_t before;
    const matrix own = own_rows(w, X, &before);
    scale_rows(own.rows * own.stride, factor, own.at);
}

/* The own rows of Y ← X. */
static void copy(const workspace *w, const matrix *X, const matrix *Y)
{
    int64_t before;
    const matrix own = own_rows(w, Y, &before);
    memcpy(own.at, X->at + before * X->stride, own.rows * own.stride * sizeof(double));
}

/* A matrix of the shape of an eigenmatrix. */
static matrix shaped(const workspace *w, double *at)
{
    matrix made = w->half;
    made.at = at;
    return made;
}

/* The own rows of Y ← T X or Y ← Y + T X. */
static void multiply_tridiagonal(const workspace *w, tridiagonal T, const matrix *X, const matrix *Y,
                                 int add)
{
    int64_t before;
    const matrix own = own_rows(w, Y, &before);
    for (int64_t k = 0; k < own.rows; k++) {
        const int64_t i = before + k, from = i > 0 ? i - 1 : 0, to = i + 1 < Y->rows ? i + 1 : i;
        double entries[3];
        for (int64_t j = from; j <= to; j++)
            entries[j - from] = j == i ? T.diagonal[i] : T.off[j < i ? j : i];
        combine_rows(own.stride, to - from + 1, X->at + from * own.stride, own.stride, entries,
                     own.at + k * own.stride, add);
    }
}

/* The own rows of Y ← Y + X T. */
static void add_times_tridiagonal(const workspace *w, const matrix *X, tridiagonal T, const matrix *Y)
{
    int64_t before;
    const matrix own = own_rows(w, Y, &before);
    add_rows_times_tridiagonal(own.rows, own.stride, X->at + before * own.stride, T.diagonal, T.off,
                               w->strip, own.at);
}

/* Y ← Σ_i A_i X B_i without the known eigenpair, on the own rows. */
static void apply(workspace *w, const matrix *X, const matrix *Y)
{
    const matrix *half = &w->half;
    int add = 0;
    for (int64_t i = 0; i < w->depth; i++) {
        const layer *at = &w->layers[i];
        const int left = at->A.at != 0, right = at->B.at != 0;
        if (at->left.diagonal)
            multiply_tridiagonal(w, at->left, X, Y, add);
        else if (at->right.diagonal) {
            add_times_tridiagonal(w, X, at->right, Y);
        } else if (left) {
            multiply_own(w, plain(at->A.at, at->A.stride), X, right ? half : Y, !right && add);
            if (right)
                multiply_own(w, plain(half->at, half->stride), &at->B, Y, add);
        } else if (right)
            multiply_own(w, plain(X->at, X->stride), &at->B, Y, add);
        else {
            const double one = 1;
            combine(w, 1, X->at, &one, Y, add);
        }
        add = 1;
    }
    if (w->known) {
        const matrix known = shaped(w, (double *)w->known);
        const double part = -w->known_value * inner(w, &known, X);
        combine(w, 1, known.at, &part, Y, 1);
    }
}

/* One run of the Lanczos iteration, which replaces the first Krylov vector by the top Ritz vector.
 * Returns whether it has converged. */
static int lanczos(workspace *w, double tolerance)
{
    const int64_t n = w->half.rows * w->half.stride, order = w->half.rows * w->half.columns;
    double alpha[LONGEST_RUN], beta[LONGEST_RUN], s[LONGEST_RUN], overlap[LONGEST_RUN];
    const int64_t check_every = w->small ? CHECK_EVERY : CHECK_EVERY_LARGE;
    int settled = 0;
    int64_t j = 0;
    while (!settled && j < LONGEST_RUN) {
        double *v = w->krylov + j * n;
        const matrix last = shaped(w, v), next = shaped(w, v + n);
        apply(w, &last, &next);
        alpha[j] = inner(w, &last, &next);
        if (!isfinite(alpha[j]))
            return 0;
        const double recent[2] = {j > 0 ? -beta[j - 1] : -alpha[j], -alpha[j]};
        combine(w, j > 0 ? 2 : 1, j > 0 ? v - n : v, recent, &next, 1);
        if (w->small) {
            for (int64_t k = 0; k <= j; k++)
                overlap[k] = -inner_product(n, w->krylov + k * n, next.at);
            combine(w, j + 1, w->krylov, overlap, &next, 1);
        }
        beta[j] = sqrt(inner(w, &next, &next));
        j++;
        /* The Krylov space has ended if it is the whole space, or if what is left is rounding. */
        const int ended = j == order || beta[j - 1] <= ROUNDING * alpha[0];
        if (ended || j == LONGEST_RUN || j % check_every == 0) {
            const double theta = largest_of_tridiagonal(j, alpha, beta);
            tridiagonal_vector(j, alpha, beta, theta, s);
            settled = ended || beta[j - 1] * fabs(s[j - 1]) <= tolerance * theta;
        }
        if (!settled) {
            scale(w, 1 / beta[j - 1], &next);
            meet(w->self);
        }
    }
    const matrix first = shaped(w, w->krylov);
    combine(w, j, w->krylov, s, &w->half, 0);
    copy(w, &w->half, &first);
    scale(w, 1 / sqrt(inner(w, &first, &first)), &first);
    meet(w->self);
    return settled;
}

/* All runs of the iteration from the first Krylov vector, which the top Ritz vector replaces, and its
 * Rayleigh quotient. Returns whether it has converged. */
static int iterate(workspace *w, double tolerance, double *value)
{
    const matrix first = shaped(w, w->krylov);
    int settled = 0;
    for (int run = 0; run < RUNS && !settled; run++)
        settled = lanczos(w, tolerance);
    apply(w, &first, &w->image);
    *value = inner(w, &first, &w->image);
    return settled;
}

#endif

/* The largest eigenpair of Y ↦ 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i) for a single minimizer, with its
 * certificate, in one call.
 *
 * It is found by a Lanczos iteration. Small Krylov vectors are reorthogonalized, which keeps the top
 * Ritz pair accurate to rounding. Large ones are not, as in _top_pairs.c: reading all of them in every
 * step would take longer than the products. The certificate is the residual in parameter space, as in
 * hessian/certificate.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "_rows.h"

/* The largest number of steps before a restart with the Ritz vector, and the number of such runs. */
#define LONGEST_RUN 128
#define RUNS 4
/* The number of steps between two checks of convergence, which is also that before the first one; the
 * products of large matrices take longer than a check. */
#define CHECK_EVERY 4
#define CHECK_EVERY_LARGE 2
/* Up to this order the Krylov vectors stay in the cache, and every one of them is made orthogonal to
 * all others. */
#define REORTHOGONALIZED 512
/* The largest number of steps of Laguerre's method. It converges cubically, mostly in about six. */
#define LAGUERRE_STEPS 100
/* A number below this fraction of the whole is rounding. */
#define ROUNDING 1e-15

/* The results of a call. After any but SOLVED the caller computes in another way. */
enum { SOLVED, OUT_OF_RANGE, NOT_FITTED, UNSETTLED, NO_MEMORY };

/* The data of a call, in the memory of the caller. */
typedef struct {
    int64_t depth;               /* L */
    const int64_t *widths;       /* d_0 … d_L */
    const double *const *layers; /* W_1 … W_L, W_i of shape (d_i, d_{i−1}) */
    const double *input_root;    /* S, shape (d_0, d_0), or NULL for the identity */
    const double *target;        /* M, shape (d_L, d_0), or NULL; not beside an input root */
    double fit;                  /* the largest accepted ‖W_{L:1} − M‖ / ‖M‖ */
    double tolerance;            /* the relative residual ‖T y − λ y‖ / λ to stop at, T = 2 J Jᵀ */
    double safe_bits;            /* the limit on log₂ of the product of all norms above 1 */
    double smallest;             /* the least eigenvalue that is trusted */
    double *value;               /* λ, written */
    double *residual;            /* ‖H U − λ U‖ / λ in parameter space, written */
    double *eigenmatrix;         /* Y, shape (d_L, d_0), written */
} single;

/* The matrices of layer i, for i = 1 … L. */
typedef struct {
    matrix V;       /* L_iᵀ, shape (d_i, d_L) */
    matrix R;       /* R_i S, shape (d_{i−1}, d_0) */
    matrix A;       /* L_iL_iᵀ, shape (d_L, d_L) */
    matrix B;       /* (R_iS)ᵀ(R_iS), shape (d_0, d_0) */
    matrix X;       /* R_i S Yᵀ, shape (d_{i−1}, d_L) */
    matrix tangent; /* the derivative of W_i ⋯ W_1 S along Jᵀ Y, shape (d_i, d_0) */
} layer;

/* The operator Y ↦ Σ_i A_i Y B_i, with its scratch memory. An A_i or a B_i at NULL is the identity. */
typedef struct {
    int64_t depth;
    layer *layers;
    const double *known; /* a unit eigenmatrix that is subtracted, or NULL */
    double known_value;  /* its eigenvalue */
    matrix half, image; /* shape (d_L, d_0) */
    matrix across;      /* shape (d_0, d_L) */
    matrix grams[2];    /* shape (d_L, d_L) */
    double *krylov;     /* LONGEST_RUN + 1 matrices of the shape of half */
    double *strip;      /* a part of a right factor */
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
                               workspace *w)
{
    int64_t used = 0;
    w->half = placed(start, &used, rows, columns);
    w->image = placed(start, &used, rows, columns);
    w->strip = placed(start, &used, widest, TILE_GROUPS * GROUP).at;
    w->krylov = placed(start, &used, (LONGEST_RUN + 1) * rows, columns).at;
    return used;
}

/* Put all matrices into the memory from ``start`` on; returns how many numbers they take. */
static int64_t lay_out(const single *p, double *start, workspace *w)
{
    const int64_t *d = p->widths, L = p->depth;
    int64_t used = 0, widest = d[0];
    w->depth = L;
    w->known = 0;
    for (int64_t i = 1; i <= L; i++) {
        layer at = {
            .V = placed(start, &used, d[i], d[L]),
            .R = placed(start, &used, d[i - 1], d[0]),
            .X = placed(start, &used, d[i - 1], d[L]),
            .tangent = placed(start, &used, d[i], d[0]),
        };
        if (i < L)
            at.A = placed(start, &used, d[L], d[L]);
        if (i > 1 || p->input_root)
            at.B = placed(start, &used, d[0], d[0]);
        if (start)
            w->layers[i - 1] = at;
        widest = d[i] > widest ? d[i] : widest;
    }
    w->across = placed(start, &used, d[0], d[L]);
    for (int k = 0; k < 2; k++)
        w->grams[k] = placed(start, &used, d[L], d[L]);
    return used + lay_out_lanczos(start ? start + used : 0, d[L], d[0], widest, w);
}

/* C = Xᵀ Y. */
static void multiply_transposed(const workspace *w, const matrix *X, const matrix *Y, matrix *C)
{
    multiply_rows(flipped(X->at, X->stride), Y, C, 0, w->strip);
}

/* The Frobenius norm of a matrix. */
static double norm_of(const matrix *X)
{
    return sqrt(inner_product(X->rows * X->stride, X->at, X->at));
}

/* log₂ of the Frobenius norm of n numbers if that is above 1, else 0; not finite for other numbers. */
static double bits_above_one(int64_t n, const double *x)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum <= 1 ? 0 : 0.5 * log2(sum);
}

/* Whether all numbers are finite, and so small that no computation leaves the range of float64. */
static int in_range(const single *p)
{
    const int64_t *d = p->widths;
    double bits = p->input_root ? bits_above_one(d[0] * d[0], p->input_root) : 0;
    for (int64_t i = 0; i < p->depth; i++)
        bits += bits_above_one(d[i + 1] * d[i], p->layers[i]);
    return bits < p->safe_bits; /* false for NaN */
}

/* The products L_iᵀ and R_i S of all layers. */
static void multiply_layers(const single *p, workspace *w)
{
    const int64_t *d = p->widths, L = p->depth;
    for (int64_t i = 0; i < L; i++) {
        matrix *R = &w->layers[i].R;
        if (i == 0 && p->input_root)
            copy_in(p->input_root, R);
        else if (i == 1 && !p->input_root)
            copy_in(p->layers[0], R);
        else if (i > 0)
            multiply_rows(plain(p->layers[i - 1], d[i - 1]), &w->layers[i - 1].R, R, 0, w->strip);
    }
    for (int64_t i = L - 2; i >= 0; i--) {
        matrix *V = &w->layers[i].V;
        if (i == L - 2)
            transpose_in(p->layers[L - 1], V);
        else
            multiply_rows(flipped(p->layers[i + 1], d[i + 1]), &w->layers[i + 1].V, V, 0, w->strip);
    }
}

/* Whether the product of the factors is the target, up to the accepted relative distance. */
static int fitted(const single *p, workspace *w)
{
    const int64_t *d = p->widths, L = p->depth;
    if (!p->target)
        return 1;
    matrix *last = &w->half, *target = &w->image;
    if (L == 1)
        copy_in(p->layers[0], last);
    else
        multiply_rows(plain(p->layers[L - 1], d[L - 1]), &w->layers[L - 1].R, last, 0, w->strip);
    copy_in(p->target, target);
    const double whole = norm_of(target), minus = -1;
    combine_rows(last->rows * last->stride, 1, target->at, &minus, last->at, 1);
    const double rest = norm_of(last);
    /* Outside of these bounds squares may leave the range of float64. */
    return whole > 0x1p-400 && whole < 0x1p400 && rest <= p->fit * whole;
}

static void make_grams(workspace *w)
{
    for (int64_t i = 0; i < w->depth; i++) {
        layer *at = &w->layers[i];
        if (at->A.at)
            multiply_transposed(w, &at->V, &at->V, &at->A);
        if (at->B.at)
            multiply_transposed(w, &at->R, &at->R, &at->B);
    }
}

/* y ← Σ_i A_i x B_i, without the known eigenpair. */
static void apply(workspace *w, double *x, double *y)
{
    matrix from = w->half, to = w->half, *half = &w->half;
    const int64_t n = half->rows * half->stride;
    from.at = x;
    to.at = y;
    for (int64_t i = 0; i < w->depth; i++) {
        const layer *at = &w->layers[i];
        const int left = at->A.at != 0, right = at->B.at != 0, add = i > 0;
        if (left)
            multiply_rows(plain(at->A.at, at->A.stride), &from, right ? half : &to, !right && add,
                          w->strip);
        if (right)
            multiply_rows(plain(left ? half->at : x, half->stride), &at->B, &to, add, w->strip);
        if (!left && !right)
            memcpy(y, x, n * sizeof(double)); /* a single layer */
    }
    if (w->known) {
        const double part = -w->known_value * inner_product(n, w->known, x);
        combine_rows(n, 1, w->known, &part, y, 1);
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

/* One run of the Lanczos iteration, which replaces the first Krylov vector by the top Ritz vector.
 * Returns whether it has converged. */
static int lanczos(workspace *w, double tolerance)
{
    const int64_t n = w->half.rows * w->half.stride, order = w->half.rows * w->half.columns;
    double alpha[LONGEST_RUN], beta[LONGEST_RUN], s[LONGEST_RUN], overlap[LONGEST_RUN];
    const int64_t check_every = order <= REORTHOGONALIZED ? CHECK_EVERY : CHECK_EVERY_LARGE;
    int settled = 0;
    int64_t j = 0;
    while (!settled && j < LONGEST_RUN) {
        double *v = w->krylov + j * n, *next = v + n;
        apply(w, v, next);
        alpha[j] = inner_product(n, v, next);
        if (!isfinite(alpha[j]))
            return 0;
        const double recent[2] = {j > 0 ? -beta[j - 1] : -alpha[j], -alpha[j]};
        combine_rows(n, j > 0 ? 2 : 1, j > 0 ? v - n : v, recent, next, 1);
        if (order <= REORTHOGONALIZED) {
            for (int64_t k = 0; k <= j; k++)
                overlap[k] = -inner_product(n, w->krylov + k * n, next);
            combine_rows(n, j + 1, w->krylov, overlap, next, 1);
        }
        beta[j] = sqrt(inner_product(n, next, next));
        j++;
        /* The Krylov space has ended if it is the whole space, or if what is left is rounding. */
        const int ended = j == order || beta[j - 1] <= ROUNDING * alpha[0];
        if (ended || j == LONGEST_RUN || j % check_every == 0) {
            const double theta = largest_of_tridiagonal(j, alpha, beta);
            tridiagonal_vector(j, alpha, beta, theta, s);
            settled = ended || beta[j - 1] * fabs(s[j - 1]) <= tolerance * theta;
        }
        if (!settled)
            scale_rows(n, 1 / beta[j - 1], next);
    }
    combine_rows(n, j, w->krylov, s, w->half.at, 0);
    memcpy(w->krylov, w->half.at, n * sizeof(double));
    scale_rows(n, 1 / sqrt(inner_product(n, w->krylov, w->krylov)), w->krylov);
    return settled;
}

/* All runs of the iteration from the first Krylov vector, which the top Ritz vector replaces, and its
 * Rayleigh quotient. Returns whether it has converged. */
static int iterate(workspace *w, double tolerance, double *value)
{
    int settled = 0;
    for (int run = 0; run < RUNS && !settled; run++)
        settled = lanczos(w, tolerance);
    apply(w, w->krylov, w->image.at);
    *value = inner_product(w->half.rows * w->half.stride, w->krylov, w->image.at);
    return settled;
}

/* A unit matrix to start with, of pseudo-random entries between −1 and 1. */
static void start_vector(workspace *w)
{
    const matrix *shape = &w->half;
    const int64_t n = shape->rows * shape->stride;
    uint64_t state = 1;
    memset(w->krylov, 0, n * sizeof(double));
    for (int64_t i = 0; i < shape->rows; i++)
        for (int64_t j = 0; j < shape->columns; j++) {
            /* A linear congruential generator (Knuth's MMIX), of which the upper bits are used. */
            state = state * 6364136223846793005u + 1442695040888963407u;
            w->krylov[i * shape->stride + j] = (double)(int64_t)state * 0x1p-63;
        }
    scale_rows(n, 1 / sqrt(inner_product(n, w->krylov, w->krylov)), w->krylov);
}

/* The X_i = R_i S Yᵀ of all layers, and ‖Jᵀ Y‖ from ‖Jᵀ Y‖² = Σ_i ⟨L_iL_iᵀ, X_iᵀX_i⟩. */
static double pull_back(const single *p, workspace *w, const matrix *Y)
{
    const int64_t *d = p->widths, L = p->depth;
    double sum = 0;
    transpose(Y, &w->across);
    for (int64_t i = 0; i < L; i++) {
        layer *at = &w->layers[i];
        matrix *X = &at->X;
        if (i > 0)
            multiply_rows(plain(p->layers[i - 1], d[i - 1]), &w->layers[i - 1].X, X, 0, w->strip);
        else if (p->input_root)
            multiply_rows(plain(p->input_root, d[0]), &w->across, X, 0, w->strip);
        else
            memcpy(X->at, w->across.at, X->rows * X->stride * sizeof(double));
        if (i == L - 1) {
            sum += inner_product(X->rows * X->stride, X->at, X->at);
            continue;
        }
        multiply_transposed(w, X, X, &w->grams[0]);
        multiply_transposed(w, &at->V, &at->V, &w->grams[1]);
        sum += inner_product(w->grams[0].rows * w->grams[0].stride, w->grams[0].at, w->grams[1].at);
    }
    return sqrt(fmax(sum, 0));
}

/* J Jᵀ Y by the chain rule, layer by layer, from the X_i that pull_back has left. */
static const matrix *push_forward(const single *p, workspace *w)
{
    const int64_t *d = p->widths, L = p->depth;
    for (int64_t i = 0; i < L; i++) {
        layer *at = &w->layers[i];
        matrix *T = &at->tangent, *moved = &w->half; /* Y (R_iS)ᵀ(R_iS) */
        if (i > 0)
            multiply_rows(plain(p->layers[i], d[i]), &w->layers[i - 1].tangent, T, 0, w->strip);
        if (i > 0 || p->input_root)
            multiply_transposed(w, &at->X, &at->R, moved);
        else
            transpose(&at->X, moved);
        if (i < L - 1)
            multiply_rows(plain(at->V.at, at->V.stride), moved, T, i > 0, w->strip);
        else {
            const double one = 1;
            combine_rows(T->rows * T->stride, 1, moved->at, &one, T->at, i > 0);
        }
    }
    return &w->layers[L - 1].tangent;
}

/* The residual ‖H U − λ U‖ / (λ ‖U‖) of U = Jᵀ Y: the defect 2 J U − λ Y, pulled back. */
static double certificate(const single *p, workspace *w, const matrix *Y, double value)
{
    const int64_t n = Y->rows * Y->stride;
    const double norm = pull_back(p, w, Y), two = 2;
    const matrix *JU = push_forward(p, w);
    matrix *defect = &w->image;
    memcpy(defect->at, Y->at, n * sizeof(double));
    scale_rows(n, -value, defect->at);
    combine_rows(n, 1, JU->at, &two, defect->at, 1);
    return pull_back(p, w, defect) / (value * norm);
}

/* Write Y or −Y, such that the entry of largest magnitude is positive. */
static void write_signed(const matrix *Y, double *out)
{
    const int64_t n = Y->rows * Y->columns;
    double largest = 0;
    copy_out(Y, out);
    for (int64_t i = 0; i < n; i++)
        largest = fabs(out[i]) > fabs(largest) ? out[i] : largest;
    for (int64_t i = 0; largest < 0 && i < n; i++)
        out[i] = -out[i];
}

static int solve(const single *p, workspace *w)
{
    multiply_layers(p, w);
    if (!fitted(p, w))
        return NOT_FITTED;
    make_grams(w);
    start_vector(w);
    if (!iterate(w, p->tolerance, p->value))
        return UNSETTLED;
    matrix Y = w->half;
    Y.at = w->krylov;
    *p->value *= 2; /* the operator has a factor of 2 before the sum */
    if (!(*p->value >= p->smallest))
        return OUT_OF_RANGE;
    *p->residual = certificate(p, w, &Y, *p->value);
    write_signed(&Y, p->eigenmatrix);
    return SOLVED;
}

/* The eigenpair with its certificate; returns whether it was found, and if not, why. */
int single_top_pair(const single *p)
{
    workspace w;
    if (!in_range(p))
        return OUT_OF_RANGE;
    const size_t size = lay_out(p, 0, &w) * sizeof(double);
    w.layers = malloc(p->depth * sizeof(layer));
    double *start = aligned_alloc(64, (size + 63) / 64 * 64);
    int result = NO_MEMORY;
    if (w.layers && start) {
        lay_out(p, start, &w);
        result = solve(p, &w);
    }
    free(start);
    free(w.layers);
    return result;
}

/* The largest eigenpair of Z ↦ Σ_i A_i Z B_i for stacks of symmetric matrices A_i (rows, rows) and
 * B_i (columns, columns), from the matrix Z, which it replaces. The pair of a unit matrix ``known`` and
 * its eigenvalue is subtracted, unless it is NULL. Returns whether the pair was found. */
int stacked_top_pair(int64_t depth, int64_t rows, int64_t columns, const double *A, const double *B,
                     const double *known, double known_value, double tolerance, double *Z,
                     double *value)
{
    workspace w;
    const int64_t widest = rows > columns ? rows : columns;
    const int64_t operators = depth * (rows * padded(rows) + columns * padded(columns));
    const int64_t iteration = lay_out_lanczos(0, rows, columns, widest, &w);
    const int64_t whole = operators + iteration + rows * padded(columns);
    double *start = aligned_alloc(64, (whole * sizeof(double) + 63) / 64 * 64);
    w.layers = malloc(depth * sizeof(layer));
    w.depth = depth;
    int result = NO_MEMORY;
    if (start && w.layers) {
        int64_t used = lay_out_lanczos(start, rows, columns, widest, &w);
        for (int64_t i = 0; i < depth; i++) {
            layer *at = &w.layers[i];
            at->A = placed(start, &used, rows, rows);
            at->B = placed(start, &used, columns, columns);
            copy_in(A + i * rows * rows, &at->A);
            copy_in(B + i * columns * columns, &at->B);
        }
        matrix copy = placed(start, &used, rows, columns);
        if (known)
            copy_in(known, &copy);
        w.known = known ? copy.at : 0;
        w.known_value = known_value;
        matrix first = w.half;
        first.at = w.krylov;
        copy_in(Z, &first);
        scale_rows(first.rows * first.stride, 1 / norm_of(&first), first.at);
        result = iterate(&w, tolerance, value) ? SOLVED : UNSETTLED;
        copy_out(&first, Z);
    }
    free(start);
    free(w.layers);
    return result;
}

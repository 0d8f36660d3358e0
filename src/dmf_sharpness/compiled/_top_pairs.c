/* The largest eigenpairs of Y ↦ 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i) for many small minimizers at once.
 *
 * The Lanczos iteration runs for eight minimizers in the lanes of a vector (see _lanes.h). The
 * Krylov vectors are not reorthogonalized. They lose orthogonality only in the directions of Ritz
 * vectors that have converged (Paige, Linear Algebra Appl. 34, 1980), and the iteration stops when
 * the top Ritz vector converges. If it has not converged after MOST_STEPS steps, the iteration
 * starts again from its Ritz vector.
 */
#include "_lanes.h"

/* The number of steps between two checks of convergence, and before the first one. */
#define LOOK_EVERY 8
#define FIRST_LOOK 16
/* The number of bisections that locate the largest eigenvalue of the tridiagonal matrix. */
#define HALVINGS 60
/* The largest number of steps, and thus of Krylov vectors, of an iteration. */
#define MOST_STEPS 64

/* The data of a call, in the memory of the caller; b stands for the number of blocks. */
typedef struct {
    int64_t depth;            /* L */
    const int64_t *widths;    /* d_0 … d_L */
    const double *input_root; /* (d_0, d_0, 8), or NULL for the identity */
    int64_t parameters;       /* N */
    const double *weights;    /* (b, N, 8) */
    const double *start;      /* (d_L d_0, 8): the first Krylov vector */
    double tolerance;         /* the relative residual ‖T y − λ y‖ / λ to stop at */
    int64_t runs;             /* the largest number of iterations, of MOST_STEPS steps at most */
    double *value;            /* (b, 8): λ, written */
    double *eigenmatrix;      /* (b, d_L d_0, 8): unit eigenmatrices, written */
    double *residual;         /* (b, 8): relative residuals, written */
} pairs;

/* Pointers into the scratch memory for the matrices of one block. */
typedef struct {
    lanes *lefts;   /* L_1L_1ᵀ … L_{L−1}L_{L−1}ᵀ */
    lanes *rights;  /* (R_1S)ᵀ(R_1S) … (R_LS)ᵀ(R_LS) */
    lanes *chain[2]; /* the products L_i and R_i S, while the Gram matrices are computed */
    lanes *half;    /* (L_iL_iᵀ) Y, before the second product */
    lanes *krylov;  /* MOST_STEPS + 1 vectors */
} workspace;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* The size of the scratch memory in vectors; the pointers are set unless ``at`` is NULL. */
static int64_t lay_out(int64_t depth, const int64_t *d, lanes *at, workspace *w)
{
    int64_t widest = 0, rows = d[depth], columns = d[0], n = rows * columns;
    for (int64_t i = 0; i <= depth; i++)
        widest = larger(widest, d[i]);
    int64_t sizes[6] = {depth * rows * rows, depth * columns * columns,
                        widest * larger(rows, columns), widest * larger(rows, columns), n,
                        (MOST_STEPS + 1) * n};
    lanes **parts[6] = {&w->lefts, &w->rights, &w->chain[0], &w->chain[1], &w->half, &w->krylov};
    int64_t total = 0;
    for (int k = 0; k < 6; k++) {
        if (at)
            *parts[k] = at + total;
        total += sizes[k];
    }
    return total;
}

/* The size of the scratch memory of a call, in doubles. */
int64_t top_pairs_scratch(int64_t depth, const int64_t *widths)
{
    workspace w;
    return (lay_out(depth, widths, 0, &w) + 1) * LANES;
}

#define PARAMETERS int64_t rows, int64_t columns, int64_t depth, const lanes *A, int64_t a_row, \
                   int64_t a_inner, const lanes *B, int64_t b_inner, int64_t b_column, lanes *C
#define ARGUMENTS(type) rows, columns, depth, (const type *)A, a_row, a_inner, B, b_inner, \
                        b_column, 0, (type *)C

/* The definition of a function for products: what becomes of an entry. */
#ifdef DMF_CLONES
#define DEFINE_PRODUCT(name, kind) \
    __attribute__((target("arch=x86-64-v4"))) static void name##_wide(PARAMETERS) \
    { \
        product_of_lanes(ARGUMENTS(lanes), kind, 0); \
    } \
    __attribute__((target_clones("arch=x86-64-v3", "default"))) \
    static void name##_narrow(PARAMETERS) \
    { \
        product_by_halves(ARGUMENTS(half_lanes), kind, 0); \
    } \
    static void name(PARAMETERS) \
    { \
        (__builtin_cpu_supports("x86-64-v4") ? name##_wide : name##_narrow)( \
            rows, columns, depth, A, a_row, a_inner, B, b_inner, b_column, C); \
    }
#else
#define DEFINE_PRODUCT(name, kind) \
    static void name(PARAMETERS) { product_by_halves(ARGUMENTS(half_lanes), kind, 0); }
#endif

DEFINE_PRODUCT(multiply, STORE)
DEFINE_PRODUCT(add_product, ADD)

/* C ← C + A B. */
static void multiply_add(int64_t rows, int64_t columns, int64_t depth, const lanes *A,
                         const lanes *B, lanes *C)
{
    add_product(rows, columns, depth, A, depth, 1, B, columns, 1, C);
}

/* The Gram matrices of all intermediate factors, except those that are the identity. */
static void make_grams(const pairs *p, const lanes *W, const workspace *w)
{
    const int64_t *d = p->widths;
    const int64_t L = p->depth, rows = d[L], columns = d[0];
    const lanes *root = (const lanes *)p->input_root, *right = root;
    const lanes *layer = W;
    for (int64_t i = 0; i < L; i++) { /* in pass i, right is R_{i+1} S, of shape (d_i, d_0) */
        if (right)
            multiply(columns, columns, d[i], right, 1, columns, right, columns, 1,
                     w->rights + i * columns * columns);
        if (i == L - 1)
            break;
        if (!right) {
            right = layer;
        } else {
            lanes *next = w->chain[right == w->chain[0]];
            multiply(d[i + 1], columns, d[i], layer, d[i], 1, right, columns, 1, next);
            right = next;
        }
        layer += d[i + 1] * d[i];
    }
    const lanes *left = layer; /* W_L, which is L_{L−1}, of shape (d_L, d_{L−1}) */
    for (int64_t i = L - 2; i >= 0; i--) {
        multiply(rows, rows, d[i + 1], left, d[i + 1], 1, left, 1, d[i + 1],
                 w->lefts + i * rows * rows);
        if (i == 0)
            break;
        layer -= d[i + 1] * d[i];
        lanes *next = w->chain[left == w->chain[0]];
        multiply(rows, d[i], d[i + 1], left, d[i + 1], 1, layer, d[i], 1, next);
        left = next;
    }
}

CLONES static void fill_zero(int64_t n, lanes *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (lanes){0};
}

/* y ← y + x. */
CLONES static void add(int64_t n, const lanes *x, lanes *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

/* y ← Σ_i (L_iL_iᵀ) x (R_iᵀR_i), which is one half of the operator. */
static void apply(const pairs *p, const workspace *w, const lanes *x, lanes *y)
{
    const int64_t L = p->depth, rows = p->widths[L], columns = p->widths[0];
    fill_zero(rows * columns, y);
    for (int64_t i = 0; i < L; i++) {
        const int left = i < L - 1, right = i > 0 || p->input_root;
        const lanes *A = w->lefts + i * rows * rows, *B = w->rights + i * columns * columns;
        if (left && right) {
            multiply(rows, columns, rows, A, rows, 1, x, columns, 1, w->half);
            multiply_add(rows, columns, columns, w->half, B, y);
        } else if (left) {
            multiply_add(rows, columns, rows, A, x, y);
        } else if (right) {
            multiply_add(rows, columns, columns, x, B, y);
        } else {
            add(rows * columns, x, y);
        }
    }
}

/* The inner product of x and y. Two partial sums keep the processor busy. */
CLONES static void dot(int64_t n, const lanes *x, const lanes *y, lanes *out)
{
    lanes a = {0}, b = {0};
    int64_t i = 0;
    for (; i + 1 < n; i += 2) {
        a += x[i] * y[i];
        b += x[i + 1] * y[i + 1];
    }
    if (i < n)
        a += x[i] * y[i];
    *out = a + b;
}

/* √x, and 0 for a negative x, which rounding can cause. NaN stays NaN, because an error must not
 * look like a residual of zero. */
INLINE lanes root_of(lanes x)
{
    lanes r;
    for (int l = 0; l < LANES; l++)
        r[l] = __builtin_sqrt(x[l] < 0 ? 0 : x[l]);
    return r;
}

/* 1 / x, and 0 where x is not above the floor. */
INLINE lanes inverse_above(lanes x, lanes floor)
{
    const lanes zero = {0};
    return select_lanes(x > floor, 1.0 / x, zero);
}

/* y ← y − a x − b z, and the norm of the new y; z may be NULL. */
CLONES static void orthogonalize(int64_t n, const lanes *a, const lanes *x, const lanes *b,
                                 const lanes *z, lanes *y, lanes *norm)
{
    lanes sum = {0};
    for (int64_t i = 0; i < n; i++) {
        lanes t = y[i] - *a * x[i];
        if (z)
            t -= *b * z[i];
        y[i] = t;
        sum += t * t;
    }
    *norm = root_of(sum);
}

/* x ← factor x. */
CLONES static void scale(int64_t n, const lanes *factor, lanes *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= *factor;
}

/* y ← Σ_j s_j k_j for the Krylov vectors k_j. */
CLONES static void combine(int64_t n, int64_t count, const lanes *krylov, const lanes *s, lanes *y)
{
    for (int64_t i = 0; i < n; i++) {
        lanes sum = {0};
        for (int64_t j = 0; j < count; j++)
            sum += krylov[j * n + i] * s[j];
        y[i] = sum;
    }
}

/* The largest eigenvalue θ of a tridiagonal matrix T, and its unit eigenvector s.
 *
 * θ is found by bisection: a number is above all eigenvalues of T if and only if all pivots of
 * the elimination of T minus this number are negative. The eigenvector follows from the elimination
 * that starts with the last row, which is stable for the largest eigenvalue. */
CLONES static void top_of_tridiagonal(int64_t m, const lanes *alpha, const lanes *beta, lanes *theta,
                                      lanes *s)
{
    const lanes zero = {0};
    lanes low = alpha[0], high = alpha[0];
    for (int64_t j = 0; j < m; j++) {
        lanes reach = alpha[j] + (j + 1 < m ? beta[j] : zero) + (j ? beta[j - 1] : zero);
        low = select_lanes(alpha[j] > low, alpha[j], low);
        high = select_lanes(reach > high, reach, high);
    }
    lanes square[MOST_STEPS], pivot[MOST_STEPS];
    for (int64_t j = 0; j + 1 < m; j++)
        square[j] = beta[j] * beta[j];
    for (int k = 0; k < HALVINGS; k++) {
        lanes middle = 0.5 * (low + high), d = alpha[0] - middle;
        mask above = d < zero;
        for (int64_t j = 1; j < m; j++) {
            d = alpha[j] - middle - square[j - 1] / d;
            above &= d < zero;
        }
        high = select_lanes(above, middle, high);
        low = select_lanes(above, low, middle);
    }
    *theta = high;
    pivot[m - 1] = alpha[m - 1] - high;
    for (int64_t j = m - 2; j > 0; j--)
        pivot[j] = alpha[j] - high - square[j] / pivot[j + 1];
    s[0] = zero + 1.0;
    lanes sum = s[0];
    for (int64_t j = 1; j < m; j++) {
        /* Where β is zero the Krylov space has ended, and all later entries are zero. */
        s[j] = select_lanes(beta[j - 1] > zero, -beta[j - 1] * s[j - 1] / pivot[j], zero);
        sum += s[j] * s[j];
    }
    lanes norm = 1.0 / root_of(sum);
    for (int64_t j = 0; j < m; j++)
        s[j] *= norm;
}

/* Whether x is at most tolerance · scale in all lanes. */
CLONES static int all_below(const lanes *x, const lanes *scale, double tolerance)
{
    mask below = *x <= tolerance * *scale;
    int all = 1;
    for (int l = 0; l < LANES; l++)
        all &= below[l] != 0;
    return all;
}

/* Store s for the lanes that had not converged before. Returns whether all lanes have now.
 *
 * A lane has converged if β |s_{m−1}| ≤ tolerance · θ. It goes on with its neighbours, but its
 * later s is not used: after convergence the Krylov vectors lose orthogonality, and the top pair
 * would appear twice. */
CLONES static int keep(int64_t m, const lanes *beta, const lanes *theta, double tolerance,
                       const lanes *s, lanes *kept, mask *converged)
{
    lanes rest = *beta * s[m - 1];
    for (int64_t j = 0; j < m; j++)
        kept[j] = select_lanes(*converged, kept[j], s[j]);
    for (int64_t j = m; j < MOST_STEPS; j++)
        kept[j] = select_lanes(*converged, kept[j], (lanes){0});
    *converged |= (rest <= tolerance * *theta) & (-rest <= tolerance * *theta);
    int all = 1;
    for (int l = 0; l < LANES; l++)
        all &= (*converged)[l] != 0;
    return all;
}

/* The same as inverse_above, compiled for each kind of processor. */
CLONES static void safe_inverse(const lanes *x, const lanes *floor, lanes *out)
{
    *out = inverse_above(*x, *floor);
}

/* One Lanczos iteration that starts with krylov[0] and replaces it by the top Ritz vector. */
static void lanczos(const pairs *p, const workspace *w)
{
    const int64_t n = p->widths[p->depth] * p->widths[0];
    lanes alpha[MOST_STEPS], beta[MOST_STEPS], s[MOST_STEPS], kept[MOST_STEPS], theta, factor;
    mask converged = {0};
    lanes *v = w->krylov;
    int64_t j = 0;
    for (;;) {
        lanes *next = v + (j + 1) * n;
        apply(p, w, v + j * n, next);
        dot(n, v + j * n, next, alpha + j);
        orthogonalize(n, alpha + j, v + j * n, j ? beta + j - 1 : 0, j ? v + (j - 1) * n : 0, next,
                      beta + j);
        /* A vector at the level of rounding is set to zero, because it is not a new direction. */
        lanes floor = alpha[0] * 1e-15;
        safe_inverse(beta + j, &floor, &factor);
        scale(n, &factor, next);
        beta[j] *= beta[j] * factor;
        j++;
        if (j == MOST_STEPS || j == n || (j >= FIRST_LOOK && j % LOOK_EVERY == 0)) {
            top_of_tridiagonal(j, alpha, beta, &theta, s);
            int all = keep(j, beta + j - 1, &theta, 0.5 * p->tolerance, s, kept, &converged);
            if (all || j == MOST_STEPS || j == n)
                break;
        }
    }
    combine(n, j, v, kept, w->half);
    lanes norm, floor = {0};
    dot(n, w->half, w->half, &norm);
    norm = root_of(norm);
    safe_inverse(&norm, &floor, &factor);
    for (int64_t i = 0; i < n; i++)
        v[i] = w->half[i] * factor;
}

/* The eigenpairs for the blocks from … to − 1. */
void top_pairs(const pairs *p, int64_t from, int64_t to, double *scratch)
{
    const int64_t n = p->widths[p->depth] * p->widths[0];
    const lanes zero = {0};
    workspace w;
    lay_out(p->depth, p->widths, (lanes *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63), &w);
    for (int64_t b = from; b < to; b++) {
        make_grams(p, (const lanes *)p->weights + b * p->parameters, &w);
        for (int64_t i = 0; i < n; i++)
            w.krylov[i] = ((const lanes *)p->start)[i];
        lanes *value = (lanes *)p->value + b, *residual = (lanes *)p->residual + b;
        for (int64_t run = 0; run < p->runs; run++) {
            lanczos(p, &w);
            lanes *image = w.krylov + n, half, norm, factor;
            apply(p, &w, w.krylov, image);
            dot(n, w.krylov, image, &half);
            orthogonalize(n, &half, w.krylov, 0, 0, image, &norm);
            safe_inverse(&half, &zero, &factor);
            *value = half + half;
            *residual = norm * factor;
            if (all_below(&norm, &half, p->tolerance))
                break;
        }
        for (int64_t i = 0; i < n; i++)
            ((lanes *)p->eigenmatrix)[b * n + i] = w.krylov[i];
    }
}

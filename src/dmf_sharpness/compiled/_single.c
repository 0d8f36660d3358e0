/* The largest eigenpair of Y ↦ 2 Σ_i (L_iL_iᵀ) Y (R_iᵀR_i) for a single minimizer, with its
 * certificate, in one call.
 *
 * The last layer has L_L = I, and without input data the first one has R_1 = I. So their terms are A_1 Y
 * and Y B_L. In a large problem the bases are turned such that A_1 and B_L are tridiagonal, each if its
 * order is at most twice the other's, and these terms then cost next to nothing. The eigenpair is found by a Lanczos iteration (_lanczos.h). The certificate is the
 * residual in parameter space, as in hessian/certificate.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "_lanczos.h"

/* A matrix is made tridiagonal if its order is at most this multiple of the other end's width.
 * Otherwise that would take longer than the products it saves. */
#define TRIDIAGONAL_RATIO 2
/* From this number of multiplications in one step on, several threads are faster; and the number of steps
 * that the products of the layers, which are made once, are divided by to be counted with it. */
#define SHARED_FROM 400000
#define TYPICAL_STEPS 60
/* The entries of a Gram matrix of orthonormal columns are so close to those of the identity. */
#define ORTHONORMAL 1e-14

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
    int64_t threads;             /* the largest number of threads */
    parallel *start_threads;     /* as for run_team */
    double *value;               /* λ, written */
    double *residual;            /* ‖H U − λ U‖ / λ in parameter space, written */
    double *eigenmatrix;         /* Y, shape (d_L, d_0), written */
} single;

/* Put a tridiagonal matrix of this order into the memory. */
static tridiagonal place_tridiagonal(double *start, int64_t *used, int64_t order)
{
    tridiagonal made = {0};
    made.diagonal = placed(start, used, 1, order).at;
    /* A zero stands before the first number off the diagonal. */
    double *off = placed(start, used, 1, GROUP + order).at;
    if (start) {
        memset(off, 0, GROUP * sizeof(double));
        memset(made.diagonal, 0, padded(order) * sizeof(double));
        made.off = off + GROUP;
    }
    return made;
}

/* Put all matrices into the memory from ``start`` on; returns how many numbers they take. */
static int64_t lay_out(const single *p, double *start, int64_t threads, workspace *w)
{
    const int64_t *d = p->widths, L = p->depth;
    int64_t used = 0, widest = d[0];
    *w = (workspace){.depth = L, .layers = w->layers, .small = d[0] * d[L] <= SMALL_ORDER};
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
        if (!w->small && L > 1 && i == 1 && !p->input_root && d[L] <= TRIDIAGONAL_RATIO * d[0]) {
            at.left = place_tridiagonal(start, &used, d[L]);
            w->turned[0] = placed(start, &used, d[L], d[L]);
        }
        if (!w->small && L > 1 && i == L && d[0] <= TRIDIAGONAL_RATIO * d[L]) {
            at.right = place_tridiagonal(start, &used, d[0]);
            w->turned[1] = placed(start, &used, d[0], d[0]);
        }
        if (start)
            w->layers[i - 1] = at;
        widest = d[i] > widest ? d[i] : widest;
    }
    w->across = placed(start, &used, d[0], d[L]);
    for (int k = 0; k < 2; k++)
        w->grams[k] = placed(start, &used, d[L], d[L]);
    if (!w->small) {
        const int64_t wider = d[0] > d[L] ? d[0] : d[L];
        w->square = placed(start, &used, wider, wider);
    }
    return used + lay_out_lanczos(start ? start + used : 0, d[L], d[0], widest, threads, w);
}

/* log₂ of the Frobenius norm of n numbers if that is above 1, else 0; not finite for other numbers. */
static double bits_above_one(int64_t n, const double *x)
{
    const double sum = sum_of_squares(n, x);
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

/* A matrix of the caller, whose rows lie behind one another. */
static void copy_in_own(const workspace *w, const double *from, const matrix *to)
{
    int64_t before;
    matrix own = own_rows(w, to, &before);
    copy_in(from + before * to->columns, &own);
}

/* The products L_iᵀ and R_i S of all layers. */
static void multiply_layers(const single *p, const workspace *w)
{
    const int64_t *d = p->widths, L = p->depth;
    for (int64_t i = 0; i < L; i++) {
        const matrix *R = &w->layers[i].R;
        if (i == 0 && p->input_root)
            copy_in_own(w, p->input_root, R);
        else if (i == 1 && !p->input_root)
            copy_in_own(w, p->layers[0], R);
        else if (i > 0)
            multiply_own(w, plain(p->layers[i - 1], d[i - 1]), &w->layers[i - 1].R, R, 0);
        meet(w->self);
    }
    for (int64_t i = L - 2; i >= 0; i--) {
        const matrix *V = &w->layers[i].V;
        if (i == L - 2) {
            const matrix last = {d[L], d[L - 1], d[L - 1], (double *)p->layers[L - 1]};
            transpose_own(w, &last, V);
        } else
            multiply_own(w, flipped(p->layers[i + 1], d[i + 1]), &w->layers[i + 1].V, V, 0);
        meet(w->self);
    }
}

/* Whether the product of the factors is the target, up to the accepted relative distance. */
static int fitted(const single *p, workspace *w)
{
    const int64_t *d = p->widths, L = p->depth;
    if (!p->target)
        return 1;
    const matrix *last = &w->half, *target = &w->image;
    if (L == 1)
        copy_in_own(w, p->layers[0], last);
    else
        multiply_own(w, plain(p->layers[L - 1], d[L - 1]), &w->layers[L - 1].R, last, 0);
    copy_in_own(w, p->target, target);
    const double whole = sqrt(inner(w, target, target)), minus = -1;
    combine(w, 1, target->at, &minus, last, 1);
    const double rest = sqrt(inner(w, last, last));
    /* Outside of these bounds squares may leave the range of float64. */
    return whole > 0x1p-400 && whole < 0x1p400 && rest <= p->fit * whole;
}

static void make_grams(const workspace *w)
{
    for (int64_t i = 0; i < w->depth; i++) {
        const layer *at = &w->layers[i];
        if (at->A.at)
            multiply_transposed(w, &at->V, &at->V, &at->A);
        if (at->B.at)
            multiply_transposed(w, &at->R, &at->R, &at->B);
    }
}

/* A ← Qᵀ A Q. */
static void turn(const workspace *w, const matrix *Q, const matrix *A)
{
    matrix product = *A;
    product.at = w->square.at;
    multiply(w, plain(A->at, A->stride), Q, &product, 0);
    multiply_transposed(w, Q, &product, A);
}

/* The bases in which A_1 and B_L are tridiagonal, and all other matrices in these bases. */
static void turn_bases(const workspace *w)
{
    const int64_t L = w->depth;
    layer *first = &w->layers[0], *last = &w->layers[L - 1];
    const matrix *left = &w->turned[0], *right = &w->turned[1];
    /* A reduction runs on one thread. With two of them the sides are reduced at once. */
    if (left->at && w->self->index == 0)
        reduce_to_tridiagonal(&first->A, first->left.diagonal, first->left.off, left, w->strip);
    if (right->at && w->self->index == w->self->all->size - 1)
        reduce_to_tridiagonal(&last->B, last->right.diagonal, last->right.off, right, w->strip);
    meet(w->self);
    for (int64_t i = 0; i < L; i++) {
        const layer *at = &w->layers[i];
        if (left->at && i > 0 && i < L - 1)
            turn(w, left, &at->A);
        if (right->at && at->B.at && i < L - 1)
            turn(w, right, &at->B);
    }
}

/* The eigenmatrix Y ← Q_left Y Q_rightᵀ in the bases of the network. */
static void turn_back(const workspace *w, const matrix *Y)
{
    if (w->turned[0].at) {
        const matrix *Q = &w->turned[0];
        multiply(w, plain(Q->at, Q->stride), Y, &w->half, 0);
        copy(w, &w->half, Y);
        meet(w->self);
    }
    if (w->turned[1].at) {
        matrix transposed = w->turned[1];
        transposed.at = w->square.at;
        transpose_own(w, &w->turned[1], &transposed);
        meet(w->self);
        multiply(w, plain(Y->at, Y->stride), &transposed, &w->half, 0);
        copy(w, &w->half, Y);
        meet(w->self);
    }
}

/* A unit matrix to start with, of pseudo-random entries between −1 and 1. */
static void start_vector(const workspace *w)
{
    const matrix *shape = &w->half;
    const int64_t n = shape->rows * shape->stride;
    uint64_t state = 1;
    if (w->self->index == 0) {
        memset(w->krylov, 0, n * sizeof(double));
        for (int64_t i = 0; i < shape->rows; i++)
            for (int64_t j = 0; j < shape->columns; j++) {
                /* A linear congruential generator (Knuth's MMIX), of which the upper bits are used. */
                state = state * 6364136223846793005u + 1442695040888963407u;
                w->krylov[i * shape->stride + j] = (double)(int64_t)state * 0x1p-63;
            }
        scale_rows(n, 1 / sqrt(inner_product(n, w->krylov, w->krylov)), w->krylov);
    }
    meet(w->self);
}

/* The X_i = R_i S Yᵀ of all layers, and ‖Jᵀ Y‖ from ‖Jᵀ Y‖² = Σ_i ⟨L_iL_iᵀ, X_iᵀX_i⟩. */
static double pull_back(const single *p, workspace *w, const matrix *Y)
{
    const int64_t *d = p->widths, L = p->depth;
    double sum = 0;
    transpose_own(w, Y, &w->across);
    meet(w->self);
    for (int64_t i = 0; i < L; i++) {
        const layer *at = &w->layers[i];
        const matrix *X = &at->X;
        if (i > 0)
            multiply_own(w, plain(p->layers[i - 1], d[i - 1]), &w->layers[i - 1].X, X, 0);
        else if (p->input_root)
            multiply_own(w, plain(p->input_root, d[0]), &w->across, X, 0);
        else
            copy(w, &w->across, X);
        meet(w->self);
        if (i == L - 1) {
            sum += inner(w, X, X);
            continue;
        }
        multiply_transposed(w, X, X, &w->grams[0]);
        multiply_transposed(w, &at->V, &at->V, &w->grams[1]);
        sum += inner(w, &w->grams[0], &w->grams[1]);
    }
    return sqrt(fmax(sum, 0));
}

/* J Jᵀ Y by the chain rule, layer by layer, from the X_i that pull_back has left. */
static const matrix *push_forward(const single *p, const workspace *w)
{
    const int64_t *d = p->widths, L = p->depth;
    for (int64_t i = 0; i < L; i++) {
        const layer *at = &w->layers[i];
        const matrix *T = &at->tangent, *moved = &w->half; /* Y (R_iS)ᵀ(R_iS) */
        if (i > 0)
            multiply_own(w, plain(p->layers[i], d[i]), &w->layers[i - 1].tangent, T, 0);
        if (i > 0 || p->input_root)
            multiply_transposed(w, &at->X, &at->R, moved);
        else {
            transpose_own(w, &at->X, moved);
            meet(w->self);
        }
        if (i < L - 1)
            multiply_own(w, plain(at->V.at, at->V.stride), moved, T, i > 0);
        else {
            const double one = 1;
            combine(w, 1, moved->at, &one, T, i > 0);
        }
        meet(w->self);
    }
    return &w->layers[L - 1].tangent;
}

/* The residual ‖H U − λ U‖ / (λ ‖U‖) of U = Jᵀ Y: the defect 2 J U − λ Y, pulled back. */
static double certificate(const single *p, workspace *w, const matrix *Y, double value)
{
    const double norm = pull_back(p, w, Y), two = 2, minus = -value;
    const matrix *JU = push_forward(p, w), *defect = &w->image;
    combine(w, 1, Y->at, &minus, defect, 0);
    combine(w, 1, JU->at, &two, defect, 1);
    meet(w->self);
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
    double value;
    multiply_layers(p, w);
    if (!fitted(p, w))
        return NOT_FITTED;
    make_grams(w);
    turn_bases(w);
    start_vector(w);
    if (!iterate(w, p->tolerance, &value))
        return UNSETTLED;
    const matrix Y = shaped(w, w->krylov);
    turn_back(w, &Y);
    value *= 2; /* the operator has a factor of 2 before the sum */
    if (!(value >= p->smallest))
        return OUT_OF_RANGE;
    const double residual = certificate(p, w, &Y, value);
    if (w->self->index == 0) {
        *p->value = value;
        *p->residual = residual;
        write_signed(&Y, p->eigenmatrix);
    }
    return SOLVED;
}

/* A call of single_top_pair or of stacked_top_pair that a team works on. */
typedef struct {
    const single *problem;
    workspace whole;
    double tolerance, value;
    int result;
} call;

/* The view that a thread has of the common workspace. */
static workspace own_workspace(const call *c, member *self)
{
    workspace w = c->whole;
    w.self = self;
    w.strip += self->index * w.scratch;
    return w;
}

static void solve_together(void *data, member *self)
{
    call *c = data;
    workspace w = own_workspace(c, self);
    const int result = solve(c->problem, &w);
    if (self->index == 0)
        c->result = result;
}

/* The number of threads for an operator on matrices of this shape, of which at most ``most`` may run; it
 * is made with so many multiplications. */
static int64_t useful_threads(int64_t most, int64_t depth, int64_t rows, int64_t columns, int64_t made)
{
    const int64_t order = rows * columns, step = order * (rows + columns) * (depth - 1);
    if (order <= SMALL_ORDER || step + made / TYPICAL_STEPS < SHARED_FROM)
        return 1;
    return most < rows ? most : rows;
}

/* The eigenpair with its certificate; returns whether it was found, and if not, why. */
int single_top_pair(const single *p)
{
    if (!in_range(p))
        return OUT_OF_RANGE;
    const int64_t *d = p->widths, L = p->depth;
    int64_t parameters = 0;
    for (int64_t i = 0; i < L; i++)
        parameters += d[i + 1] * d[i];
    const int64_t threads =
        useful_threads(p->threads, L, d[L], d[0], parameters * (d[0] + d[L]));
    call c = {.problem = p, .result = NO_MEMORY};
    const size_t size = lay_out(p, 0, threads, &c.whole) * sizeof(double);
    c.whole.layers = malloc(p->depth * sizeof(layer));
    double *start = aligned_alloc(64, (size + 63) / 64 * 64);
    if (c.whole.layers && start) {
        lay_out(p, start, threads, &c.whole);
        run_team(threads, p->start_threads, solve_together, &c);
    }
    free(start);
    free(c.whole.layers);
    return c.result;
}

/* Whether a matrix is the identity up to rounding. */
static int is_identity(const matrix *A)
{
    for (int64_t i = 0; i < A->rows; i++)
        for (int64_t j = 0; j < A->columns; j++)
            if (!(fabs(A->at[i * A->stride + j] - (i == j)) <= ORTHONORMAL))
                return 0;
    return 1;
}

static void iterate_together(void *data, member *self)
{
    call *c = data;
    workspace w = own_workspace(c, self);
    double value;
    const int settled = iterate(&w, c->tolerance, &value);
    if (self->index == 0) {
        c->value = value;
        c->result = settled ? SOLVED : UNSETTLED;
    }
}

/* The largest eigenpair of Z ↦ Σ_i A_i Z B_i for stacks of symmetric matrices A_i (rows, rows) and
 * B_i (columns, columns), from the matrix Z, which it replaces. The pair of a unit matrix ``known`` and
 * its eigenvalue is subtracted, unless it is NULL. Returns whether the pair was found. */
int stacked_top_pair(int64_t depth, int64_t rows, int64_t columns, const double *A, const double *B,
                     const double *known, double known_value, double tolerance, int64_t most_threads,
                     parallel *start_threads, double *Z, double *value)
{
    call c = {.tolerance = tolerance, .result = NO_MEMORY};
    workspace *w = &c.whole;
    *w = (workspace){.depth = depth, .small = rows * columns <= SMALL_ORDER};
    const int64_t threads = useful_threads(most_threads, depth, rows, columns, 0);
    const int64_t widest = rows > columns ? rows : columns;
    const int64_t operators = depth * (rows * padded(rows) + columns * padded(columns));
    const int64_t iteration = lay_out_lanczos(0, rows, columns, widest, threads, w);
    const int64_t whole = operators + iteration + rows * padded(columns);
    double *start = aligned_alloc(64, (whole * sizeof(double) + 63) / 64 * 64);
    w->layers = malloc(depth * sizeof(layer));
    if (start && w->layers) {
        int64_t used = lay_out_lanczos(start, rows, columns, widest, threads, w);
        for (int64_t i = 0; i < depth; i++) {
            layer *at = &w->layers[i];
            *at = (layer){
                .A = placed(start, &used, rows, rows),
                .B = placed(start, &used, columns, columns),
            };
            copy_in(A + i * rows * rows, &at->A);
            copy_in(B + i * columns * columns, &at->B);
            /* So it is for the last layer and orthonormal directions at the output. */
            if (is_identity(&at->A))
                at->A.at = 0;
            if (is_identity(&at->B))
                at->B.at = 0;
        }
        matrix copy = placed(start, &used, rows, columns);
        if (known)
            copy_in(known, &copy);
        w->known = known ? copy.at : 0;
        w->known_value = known_value;
        const matrix first = shaped(w, w->krylov);
        copy_in(Z, &first);
        const int64_t n = first.rows * first.stride;
        scale_rows(n, 1 / sqrt(inner_product(n, first.at, first.at)), first.at);
        run_team(threads, start_threads, iterate_together, &c);
        copy_out(&first, Z);
        *value = c.value;
    }
    free(start);
    free(w->layers);
    return c.result;
}

/* Gradient descent of the runs that lie side by side in one vector, for one kind of processor.
 *
 * _kernels.c includes this file once for each kind, and defines before: VECTOR and VECTOR_MASK, the
 * types; TILED(f), the name of the function f of _tiles.h; NAMED(f), the name of a function f for
 * this kind. A block of eight runs consists of PARTS vectors, whose runs are computed one vector
 * after the other, from copies in the scratch memory: half as much data stays in the cache better.
 */
#define PARTS ((int)(sizeof(lanes) / sizeof(VECTOR)))

/* The lanes of an array of the caller that part of the block holds. */
#define AT(array, index) (((VECTOR *)((lanes *)(array) + (index)))[part])

#define DEFINE_PRODUCT(name, shared, kind) \
    static void NAMED(name)(int64_t rows, int64_t columns, int64_t depth, const VECTOR *A, \
                            int64_t a_row, int64_t a_inner, const void *B, int64_t b_inner, \
                            int64_t b_column, VECTOR *C, const TILED(update) *u) \
    { \
        TILED(product)(rows, columns, depth, A, a_row, a_inner, B, b_inner, b_column, shared, C, \
                       kind, u); \
    }

DEFINE_PRODUCT(multiply, 0, STORE)
/* A product with data, which all lanes share. */
DEFINE_PRODUCT(multiply_by_data, 1, STORE)
/* The update W ← W − η A B of plain gradient descent, and the same with the two kinds of momentum. */
DEFINE_PRODUCT(descend_along, 0, DESCEND)
DEFINE_PRODUCT(descend_along_data, 1, DESCEND)
DEFINE_PRODUCT(momentum_along, 0, MOMENTUM)
DEFINE_PRODUCT(momentum_along_data, 1, MOMENTUM)
DEFINE_PRODUCT(nesterov_along, 0, NESTEROV)
DEFINE_PRODUCT(nesterov_along_data, 1, NESTEROV)
#undef DEFINE_PRODUCT

/* P ← 2 (P − T), the gradient of the loss; returns the square of P − T. */
INLINE VECTOR NAMED(subtract_one)(VECTOR *P, VECTOR T)
{
    const VECTOR residual = *P - T;
    *P = residual + residual;
    return residual * residual;
}

/* P ← 2 ω (P − T); returns ω (P − T)². */
INLINE VECTOR NAMED(subtract_weighted_one)(VECTOR *P, VECTOR T, VECTOR weight)
{
    const VECTOR residual = *P - T, weighted = weight * residual;
    *P = weighted + weighted;
    return weighted * residual;
}

/* The loss, the sum of n terms, as four sums of every fourth term: an addition to one of them need
 * not wait for those to the others. */
#define SUM_OF_TERMS(term) \
    VECTOR sum[4] = {{0}}; \
    int64_t i = 0; \
    for (; i + 4 <= n; i += 4) { \
        sum[0] += term(i); \
        sum[1] += term(i + 1); \
        sum[2] += term(i + 2); \
        sum[3] += term(i + 3); \
    } \
    if (i < n) \
        sum[0] += term(i); \
    if (i + 1 < n) \
        sum[1] += term(i + 1); \
    if (i + 2 < n) \
        sum[2] += term(i + 2); \
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);

/* P ← 2 (P − T), entry by entry, and the loss Σ (P − T)². */
static VECTOR NAMED(subtract_target)(int64_t n, VECTOR *P, const VECTOR *T)
{
#define TERM(i) NAMED(subtract_one)(P + (i), T[i])
    SUM_OF_TERMS(TERM)
#undef TERM
}

/* P ← 2 ω (P − T), entry by entry, and the weighted loss Σ ω (P − T)². */
static VECTOR NAMED(subtract_weighted)(int64_t n, VECTOR *P, const VECTOR *T, const VECTOR *weight)
{
#define TERM(i) NAMED(subtract_weighted_one)(P + (i), T[i], weight[i])
    SUM_OF_TERMS(TERM)
#undef TERM
}
#undef SUM_OF_TERMS

/* P ← 2 (P − T) with a T that all lanes share. */
static void NAMED(subtract_data)(int64_t n, VECTOR *P, const double *T)
{
    for (int64_t i = 0; i < n; i++) {
        P[i] -= T[i];
        P[i] += P[i];
    }
}

/* The larger of limit and growth · loss. The result is finite, so that an infinite loss exceeds
 * it. */
INLINE VECTOR NAMED(raised)(VECTOR limit, double growth, VECTOR loss)
{
    VECTOR grown = growth * loss;
    grown = TILED(chosen)(grown <= DBL_MAX, grown, (VECTOR){0} + DBL_MAX);
    return TILED(chosen)(grown > limit, grown, limit);
}

/* The forward pass: the signals W_i ⋯ W_1 S. The last one is always a copy, which the gradient of
 * the loss will replace. */
static void NAMED(forward)(const problem *p, const VECTOR *W, VECTOR *signals, const VECTOR **signal)
{
    const int64_t *d = p->widths;
    const int64_t r = p->columns, last = p->depth - 1;
    VECTOR *next = signals;
    const VECTOR *layer = W;
    for (int64_t i = 0; i <= last; i++) {
        signal[i] = next;
        if (i > 0)
            NAMED(multiply)(d[i + 1], r, d[i], layer, d[i], 1, signal[i - 1], r, 1, next, 0);
        else if (p->input_root)
            NAMED(multiply_by_data)(d[1], r, d[0], layer, d[0], 1, p->input_root, r, 1, next, 0);
        else if (last > 0)
            signal[0] = W; /* without input data the first signal is W_1 */
        else
            for (int64_t n = 0; n < d[1] * r; n++)
                next[n] = W[n];
        next += d[i + 1] * r;
        layer += d[i + 1] * d[i];
    }
}

/* The update W ← W − η A Bᵀ, A of r columns, by the method of the call. If B is NULL, the identity
 * takes its place. */
static void NAMED(update_along)(const problem *p, int64_t rows, int64_t columns, int64_t r,
                                const VECTOR *A, const void *B, int shared, VECTOR *W,
                                const TILED(update) *u)
{
#define UPDATE(name, kind) \
    if (B && shared) \
        NAMED(name##_along_data)(rows, columns, r, A, r, 1, B, 1, r, W, u); \
    else if (B) \
        NAMED(name##_along)(rows, columns, r, A, r, 1, B, 1, r, W, u); \
    else \
        for (int64_t n = 0; n < rows * columns; n++) \
            TILED(update_one)(kind, u, A[n], W + n);
    if (!p->velocity) {
        UPDATE(descend, DESCEND)
    } else if (!p->nesterov) {
        UPDATE(momentum, MOMENTUM)
    } else {
        UPDATE(nesterov, NESTEROV)
    }
#undef UPDATE
}

/* The backward pass: one step of all live runs, from the signals, of which the gradient of the loss
 * has replaced the last one. */
static void NAMED(step_back)(const problem *p, VECTOR *W, const VECTOR **signal, VECTOR *spare[2],
                             const TILED(update) *u)
{
    const int64_t *d = p->widths;
    const int64_t r = p->columns;
    const VECTOR *back = signal[p->depth - 1];
    VECTOR *layer = W + p->parameters;
    for (int64_t i = p->depth - 1; i >= 0; i--) {
        const int64_t rows = d[i + 1], inner = d[i];
        VECTOR *next = spare[i % 2];
        layer -= rows * inner;
        if (i > 0) { /* before W_i is updated */
            NAMED(multiply)(inner, r, rows, layer, 1, inner, back, r, 1, next, 0);
            NAMED(update_along)(p, rows, inner, r, back, signal[i - 1], 0, layer, u);
        } else {
            NAMED(update_along)(p, rows, inner, r, back, p->input_root, 1, layer, u);
        }
        back = next;
    }
}

/* One step of all live runs on a part of the data. */
static void NAMED(step_on_part)(const problem *p, const int64_t *chosen, VECTOR *W, VECTOR *signals,
                                const VECTOR **signal, VECTOR *spare[2], double *data,
                                const TILED(update) *u)
{
    const int64_t m = p->drawn_columns, d_out = p->widths[p->depth];
    double *outputs = data + p->widths[0] * m;
    gather(m, chosen, p->widths[0], p->inputs, data);
    gather(m, chosen, d_out, p->outputs, outputs);
    problem here = *p;
    here.columns = m;
    here.input_root = data;
    NAMED(forward)(&here, W, signals, signal);
    NAMED(subtract_data)(d_out * m, (VECTOR *)signal[p->depth - 1], outputs);
    NAMED(step_back)(&here, W, signal, spare, u);
}

/* Record k of part of block b: loss, squared distance from the reference and components along the
 * directions, and the parameters if the path is wanted. */
static void NAMED(record)(const problem *p, int64_t k, int64_t b, int part, const VECTOR *W,
                          VECTOR loss)
{
    const int64_t N = p->parameters, P = p->axes;
    const double *reference = p->reference + b * N * LANES;
    double *out = p->observed + (k * p->blocks + b) * (2 + P) * LANES;
    VECTOR distance = {0};
    for (int64_t i = 0; i < N; i++) {
        VECTOR d = W[i] - AT(reference, i);
        distance += d * d;
    }
    AT(out, 0) = loss;
    AT(out, 1) = distance;
    for (int64_t a = 0; a < P; a++) {
        const double *direction = p->directions + (b * P + a) * N * LANES;
        VECTOR along = {0};
        for (int64_t i = 0; i < N; i++)
            along += AT(direction, i) * (W[i] - AT(reference, i));
        AT(out, 2 + a) = along;
    }
    if (p->path) {
        double *copy = p->path + (k * p->blocks + b) * N * LANES;
        for (int64_t i = 0; i < N; i++)
            AT(copy, i) = W[i];
    }
}

/* A copy of the rows of part of block b, side by side, of a matrix with n columns and a row for each
 * run. The last block is filled up with copies of the last run. */
static void NAMED(load)(const problem *p, int64_t n, const double *matrix, int64_t b, int part,
                        VECTOR *copy)
{
    const double *row[LANES / PARTS];
    for (int l = 0; l < LANES / PARTS; l++) {
        const int64_t run = b * LANES + part * (LANES / PARTS) + l;
        row[l] = matrix + (run < p->runs ? run : p->runs - 1) * n;
    }
    for (int64_t i = 0; i < n; i++)
        for (int l = 0; l < LANES / PARTS; l++)
            copy[i][l] = row[l][i];
}

/* The same in the other direction, without the copies of the last run. */
static void NAMED(unload)(const problem *p, int64_t n, const VECTOR *copy, double *matrix, int64_t b,
                          int part)
{
    for (int l = 0; l < LANES / PARTS; l++) {
        const int64_t run = b * LANES + part * (LANES / PARTS) + l;
        for (int64_t i = 0; i < n && run < p->runs; i++)
            matrix[run * n + i] = copy[i][l];
    }
}

/* All steps of a call for part of block b. */
static void NAMED(descend_part)(const problem *p, int64_t b, int part, VECTOR *scratch)
{
    const int64_t outputs = p->widths[p->depth] * p->columns, N = p->parameters;
    const int64_t last_step = p->first_step + p->steps;
    const places at = places_of(p);
    VECTOR *W = scratch, *T = scratch + at.target, *signals = scratch + at.signals;
    VECTOR *weight = p->observed_weights ? scratch + at.weight : 0;
    VECTOR *spare[2] = {scratch + at.spare[0], scratch + at.spare[1]};
    const VECTOR *signal[MOST_LAYERS];
    NAMED(load)(p, N, p->weights, b, part, W);
    NAMED(load)(p, outputs, p->target, b, part, T);
    if (p->velocity)
        NAMED(load)(p, N, p->velocity, b, part, W + at.velocity);
    if (weight)
        NAMED(load)(p, outputs, p->observed_weights, b, part, weight);

    const VECTOR eta = AT(p->eta, b), floor = AT(p->floor, b);
    VECTOR limit = AT(p->limit, b), previous = AT(p->previous, b), loss;
    VECTOR_MASK taken = (VECTOR_MASK)AT(p->taken, b), outcome = (VECTOR_MASK)AT(p->outcome, b);
    TILED(update) u = {eta, outcome == 0, p->momentum, at.velocity};
    for (int64_t step = p->first_step;; step++) {
        const int ending = step == last_step;
        NAMED(forward)(p, W, signals, signal);
        VECTOR *last = (VECTOR *)signal[p->depth - 1];
        loss = weight ? NAMED(subtract_weighted)(outputs, last, T, weight)
                      : NAMED(subtract_target)(outputs, last, T);
        /* The last iterate of this call is the first one of the next call, which checks and
         * records it. */
        if (ending && !p->final)
            break;
        if (p->observe_every && step % p->observe_every == 0) {
            const int64_t every = p->observe_every;
            const int64_t first = p->first_step / every + (p->first_step % every != 0);
            NAMED(record)(p, step / every - first, b, part, W, loss);
        }
        if (step == 0)
            limit = NAMED(raised)(limit, p->growth, loss);
        VECTOR_MASK diverged = u.live & ~(loss <= limit);
        outcome += diverged & 2;
        u.live &= ~diverged;
        if (step % p->check_every == 0 || ending) {
            VECTOR_MASK converged = u.live & (loss <= floor) & (loss <= previous);
            outcome += converged & 1;
            u.live &= ~converged;
            previous = loss;
        }
        int64_t any = 0;
        for (int l = 0; l < LANES / PARTS; l++)
            any |= u.live[l];
        if (!any || ending)
            break;
        taken -= u.live; /* a set lane of a mask is −1 */
        if (p->drawn_columns) {
            const int64_t *chosen = p->drawn + (step - p->first_step) * p->drawn_columns;
            double *data = (double *)(scratch + at.end);
            NAMED(step_on_part)(p, chosen, W, signals, signal, spare, data, &u);
        } else {
            NAMED(step_back)(p, W, signal, spare, &u);
        }
    }
    NAMED(unload)(p, N, W, p->weights, b, part);
    if (p->velocity)
        NAMED(unload)(p, N, W + at.velocity, p->velocity, b, part);
    AT(p->limit, b) = limit;
    AT(p->previous, b) = previous;
    AT(p->taken, b) = (VECTOR)taken;
    AT(p->outcome, b) = (VECTOR)outcome;
    AT(p->loss, b) = loss;
}

/* All steps of a call for the blocks from … to − 1. */
static void NAMED(descend)(const problem *p, int64_t from, int64_t to, void *scratch)
{
    for (int64_t b = from; b < to; b++)
        for (int part = 0; part < PARTS; part++)
            NAMED(descend_part)(p, b, part, scratch);
}

#undef PARTS
#undef AT
#undef VECTOR
#undef VECTOR_MASK
#undef TILED
#undef NAMED

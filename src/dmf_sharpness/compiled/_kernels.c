/* Gradient descent on many small matrix factorizations at once.
 *
 * Eight runs form a block, and lie side by side in the lanes of a vector (see _lanes.h). All
 * steps of a call are done for one block before the next one, so that the data of the block stay in
 * the cache.
 */
#include "_lanes.h"

#include <float.h>

/* The digest of the sources from which this library was built. The caller compares it with the
 * digest of the sources beside the library. */
#ifndef DMF_SOURCES
#define DMF_SOURCES ""
#endif
const char *source_digest(void) { return DMF_SOURCES; }

/* A product with data, which all lanes share. */
DEFINE_PRODUCT(multiply_by_data, 1, STORE)
/* The update W ← W − η A B of plain gradient descent, and the same with the two kinds of momentum. */
DEFINE_PRODUCT(descend_along, 0, DESCEND)
DEFINE_PRODUCT(descend_along_data, 1, DESCEND)
DEFINE_PRODUCT(momentum_along, 0, MOMENTUM)
DEFINE_PRODUCT(momentum_along_data, 1, MOMENTUM)
DEFINE_PRODUCT(nesterov_along, 0, NESTEROV)
DEFINE_PRODUCT(nesterov_along_data, 1, NESTEROV)

/* P ← P − T, the residual, and its sum of squares, the loss. */
CLONES static void subtract_target(int64_t n, lanes *P, const lanes *T, lanes *loss)
{
    lanes sum = {0};
    for (int64_t i = 0; i < n; i++) {
        P[i] -= T[i];
        sum += P[i] * P[i];
    }
    *loss = sum;
}

/* P ← ω (P − T), entry by entry, and the weighted loss Σ ω (P − T)². */
CLONES static void subtract_weighted(int64_t n, lanes *P, const lanes *T, const lanes *weight,
                                     lanes *loss)
{
    lanes sum = {0};
    for (int64_t i = 0; i < n; i++) {
        lanes residual = P[i] - T[i];
        P[i] = weight[i] * residual;
        sum += P[i] * residual;
    }
    *loss = sum;
}

/* P ← 2 P. */
CLONES static void scale_by_two(int64_t n, lanes *P)
{
    for (int64_t i = 0; i < n; i++)
        P[i] += P[i];
}

/* limit ← the larger of limit and growth · loss. The result is finite, so that an infinite loss
 * exceeds it. */
CLONES static void raise_limit(const lanes *loss, double growth, lanes *limit)
{
    const lanes zero = {0};
    lanes grown = growth * *loss;
    grown = select_lanes(grown <= DBL_MAX, grown, zero + DBL_MAX);
    *limit = select_lanes(grown > *limit, grown, *limit);
}

/* The squared distance from a reference point, followed by the components along the given
 * directions. */
CLONES static void observe(int64_t n, const lanes *w, const lanes *reference, int64_t axes,
                           const lanes *directions, lanes *out)
{
    lanes distance = {0};
    for (int64_t i = 0; i < n; i++) {
        lanes d = w[i] - reference[i];
        distance += d * d;
    }
    out[0] = distance;
    for (int64_t p = 0; p < axes; p++) {
        lanes along = {0};
        for (int64_t i = 0; i < n; i++)
            along += directions[p * n + i] * (w[i] - reference[i]);
        out[1 + p] = along;
    }
}

/* The data of a call, in the memory of the caller. In the shapes, b stands for the number of
 * blocks, and 8 for the runs of a block. An array marked "updated" is read and written. */
typedef struct {
    int64_t depth;            /* L */
    const int64_t *widths;    /* d_0 … d_L */
    int64_t columns;          /* r */
    const double *input_root; /* (d_0, r), or NULL for the identity (r = d_0) */
    int64_t parameters;       /* N */
    double *weights;          /* (b, N, 8), updated */
    double *velocity;         /* (b, N, 8), updated; NULL without momentum */
    const double *target;     /* (b, d_L r, 8) */
    const double *observed_weights; /* (b, d_L r, 8): ω, or NULL for a weight of 1 of each entry */
    const double *inputs;     /* (n, d_0): the data of which a step uses a part; NULL for no parts */
    const double *outputs;    /* (n, d_L) */
    const int64_t *drawn;     /* (steps, m): the numbers of the data that each step uses */
    int64_t drawn_columns;    /* m; 0 for no parts */
    const double *eta;        /* (b, 8) */
    double *limit;            /* (b, 8): a run with a loss above it or NaN has diverged; updated */
    const double *floor;      /* (b, 8): a run ends at a loss up to it that has not grown */
    double *previous;         /* (b, 8): the loss at the last check of convergence, updated */
    double growth;            /* the least limit, divided by the loss at step 0 */
    double momentum;
    int64_t nesterov;
    int64_t first_step;
    int64_t steps;
    int64_t final;            /* whether the runs end after these steps */
    int64_t check_every;      /* the number of steps between two checks of convergence */
    int64_t *taken;           /* (b, 8): the number of steps that each run has taken, updated */
    int64_t *outcome;         /* (b, 8): 0 running, 1 converged, 2 diverged; updated */
    double *loss;             /* (b, 8): the loss at the end, written */
    int64_t observe_every;    /* the number of steps between two records; 0 for no records */
    int64_t axes;             /* P */
    const double *reference;  /* (b, N, 8) */
    const double *directions; /* (b, P, N, 8) */
    double *observed;         /* (K, b, 2 + P, 8): records of loss, squared distance, components */
    double *path;             /* (K, b, N, 8): the parameters of K records, or NULL */
    int64_t blocks;           /* the number of all blocks, for the strides of observed and path */
} problem;

/* The number of vectors for all signals (total) and for one matrix of the backward pass (spare).
 * A step on a part of the data has other signals than the whole loss, in the same memory. */
static void sizes_of(const problem *p, int64_t *total, int64_t *spare)
{
    const int64_t columns = p->columns > p->drawn_columns ? p->columns : p->drawn_columns;
    int64_t sum = 0, widest = 0;
    for (int64_t i = 0; i <= p->depth; i++) {
        sum += p->widths[i];
        widest = p->widths[i] > widest ? p->widths[i] : widest;
    }
    *total = sum * columns;
    *spare = widest * columns;
}

/* The size of the scratch memory of a call, in doubles: all signals, two matrices for the
 * backward pass, and the inputs and outputs of a step on a part of the data. */
int64_t scratch_size(const problem *p)
{
    int64_t total, spare;
    sizes_of(p, &total, &spare);
    const int64_t part = (p->widths[0] + p->widths[p->depth]) * p->drawn_columns;
    return (total + 2 * spare) * LANES + part + LANES;
}

/* The forward pass: the signals W_i ⋯ W_1 S. The last one is always a copy, which the residual will
 * replace. */
static void forward(const problem *p, const lanes *W, lanes *signals, const lanes **signal)
{
    const int64_t *d = p->widths;
    const int64_t r = p->columns, last = p->depth - 1;
    lanes *next = signals;
    const lanes *layer = W;
    for (int64_t i = 0; i <= last; i++) {
        signal[i] = next;
        if (i > 0)
            multiply(d[i + 1], r, d[i], layer, d[i], 1, signal[i - 1], r, 1, next);
        else if (p->input_root)
            multiply_by_data(d[1], r, d[0], layer, d[0], 1, p->input_root, r, 1, next, 0, 0);
        else if (last > 0)
            signal[0] = W; /* without input data the first signal is W_1 */
        else
            for (int64_t n = 0; n < d[1] * r; n++)
                next[n] = W[n];
        next += d[i + 1] * r;
        layer += d[i + 1] * d[i];
    }
}

/* The signals, the last one replaced by the residual times the weights, and the loss. */
static void evaluate(const problem *p, const lanes *W, const lanes *T, const lanes *weight,
                     lanes *signals, const lanes **signal, lanes *loss)
{
    const int64_t n = p->widths[p->depth] * p->columns;
    forward(p, W, signals, signal);
    lanes *residual = (lanes *)signal[p->depth - 1];
    if (weight)
        subtract_weighted(n, residual, T, weight, loss);
    else
        subtract_target(n, residual, T, loss);
}

/* The update W ← W − η A Bᵀ, A of r columns, by the method of the call. If B is NULL, the identity
 * takes its place. */
static void update_along(const problem *p, int64_t rows, int64_t columns, int64_t r, const lanes *A,
                         const void *B, int shared, lanes *W, const update *u, int64_t offset)
{
    static const double one = 1;
    if (!B) { /* the entries of A in a column, times one */
        B = &one, shared = 1;
        rows *= columns, columns = r = 1;
    }
#define UPDATE(name) name(rows, columns, r, A, r, 1, B, 1, r, W, u, offset)
    if (!u->velocity)
        shared ? UPDATE(descend_along_data) : UPDATE(descend_along);
    else if (!p->nesterov)
        shared ? UPDATE(momentum_along_data) : UPDATE(momentum_along);
    else
        shared ? UPDATE(nesterov_along_data) : UPDATE(nesterov_along);
#undef UPDATE
}

/* The backward pass: one step of all live runs of a block, from the signals and the residual of
 * evaluate. */
static void step_back(const problem *p, lanes *W, const lanes **signal, lanes *spare[2], update *u)
{
    const int64_t *d = p->widths;
    const int64_t L = p->depth, r = p->columns;
    lanes *back = (lanes *)signal[L - 1];
    scale_by_two(d[L] * r, back);
    int64_t offset = p->parameters;
    for (int64_t i = L - 1; i >= 0; i--) {
        int64_t rows = d[i + 1], inner = d[i];
        offset -= rows * inner;
        lanes *layer = W + offset, *next = spare[i % 2];
        if (i > 0) /* before W_i is updated */
            multiply(inner, r, rows, layer, 1, inner, back, r, 1, next);
        if (i > 0)
            update_along(p, rows, inner, r, back, signal[i - 1], 0, layer, u, offset);
        else
            update_along(p, rows, inner, r, back, p->input_root, 1, layer, u, offset);
        back = next;
    }
}

/* The chosen rows of a matrix (n, rows), as the columns of a matrix (rows, m). */
static void gather(int64_t m, const int64_t *chosen, int64_t rows, const double *data, double *out)
{
    for (int64_t k = 0; k < m; k++)
        for (int64_t i = 0; i < rows; i++)
            out[i * m + k] = data[chosen[k] * rows + i];
}

/* P ← P − T with a T that all lanes share. */
CLONES static void subtract_data(int64_t n, lanes *P, const double *T)
{
    for (int64_t i = 0; i < n; i++)
        P[i] -= T[i];
}

/* One step of all live runs of a block on a part of the data. */
static void step_on_part(const problem *p, const int64_t *chosen, lanes *W, lanes *signals,
                         const lanes **signal, lanes *spare[2], double *part, update *u)
{
    const int64_t m = p->drawn_columns, d_out = p->widths[p->depth];
    double *outputs = part + p->widths[0] * m;
    gather(m, chosen, p->widths[0], p->inputs, part);
    gather(m, chosen, d_out, p->outputs, outputs);
    problem here = *p;
    here.columns = m;
    here.input_root = part;
    forward(&here, W, signals, signal);
    subtract_data(d_out * m, (lanes *)signal[p->depth - 1], outputs);
    step_back(&here, W, signal, spare, u);
}

/* Record k of block b: loss, distance and components, and the parameters if the path is wanted. */
static void record(const problem *p, int64_t k, int64_t b, const lanes *W, const lanes *loss)
{
    const int64_t N = p->parameters, P = p->axes;
    lanes *out = (lanes *)p->observed + (k * p->blocks + b) * (2 + P);
    out[0] = *loss;
    observe(N, W, (const lanes *)p->reference + b * N, P, (const lanes *)p->directions + b * P * N,
            out + 1);
    if (p->path) {
        lanes *copy = (lanes *)p->path + (k * p->blocks + b) * N;
        for (int64_t i = 0; i < N; i++)
            copy[i] = W[i];
    }
}

/* The largest number of layers; the same number stands in descent/compiled_engine.py. */
#define MOST_LAYERS 256

/* All steps of a call for the blocks from … to − 1. Returns 1 if there are too many layers, else
 * 0. */
int descend(const problem *p, int64_t from, int64_t to, double *scratch)
{
    const int64_t *d = p->widths;
    const int64_t L = p->depth, outputs = d[L] * p->columns, N = p->parameters;
    const int64_t last_step = p->first_step + p->steps;
    const lanes *signal[MOST_LAYERS];
    if (L > MOST_LAYERS)
        return 1;
    lanes *signals = (lanes *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    int64_t total, one;
    sizes_of(p, &total, &one);
    lanes *spare[2] = {signals + total, signals + total + one};
    double *part = (double *)(signals + total + 2 * one);

    for (int64_t b = from; b < to; b++) {
        lanes *W = (lanes *)p->weights + b * N;
        const lanes *T = (const lanes *)p->target + b * outputs, *weight = 0;
        if (p->observed_weights)
            weight = (const lanes *)p->observed_weights + b * outputs;
        const lanes eta = ((const lanes *)p->eta)[b], floor = ((const lanes *)p->floor)[b];
        lanes *limit = (lanes *)p->limit + b, *previous = (lanes *)p->previous + b;
        mask *taken = (mask *)p->taken + b, *outcome = (mask *)p->outcome + b;
        mask live = *outcome == 0;
        update u = {p->velocity ? (lanes *)p->velocity + b * N : 0, &eta, &live, p->momentum};
        lanes loss;
        for (int64_t step = p->first_step;; step++) {
            const int ending = step == last_step;
            evaluate(p, W, T, weight, signals, signal, &loss);
            /* The last iterate of this call is the first one of the next call, which checks and
             * records it. */
            if (ending && !p->final)
                break;
            if (p->observe_every && step % p->observe_every == 0) {
                const int64_t every = p->observe_every;
                const int64_t first = p->first_step / every + (p->first_step % every != 0);
                record(p, step / every - first, b, W, &loss);
            }
            if (step == 0)
                raise_limit(&loss, p->growth, limit);
            mask diverged = live & ~(loss <= *limit);
            *outcome += diverged & 2;
            live &= ~diverged;
            if (step % p->check_every == 0 || ending) {
                mask converged = live & (loss <= floor) & (loss <= *previous);
                *outcome += converged & 1;
                live &= ~converged;
                *previous = loss;
            }
            int any = 0;
            for (int l = 0; l < LANES; l++)
                any |= live[l] != 0;
            if (!any || ending)
                break;
            *taken -= live; /* a set lane of a mask is −1 */
            if (p->drawn_columns) {
                const int64_t *chosen = p->drawn + (step - p->first_step) * p->drawn_columns;
                step_on_part(p, chosen, W, signals, signal, spare, part, &u);
            } else {
                step_back(p, W, signal, spare, &u);
            }
        }
        ((lanes *)p->loss)[b] = loss;
    }
    return 0;
}

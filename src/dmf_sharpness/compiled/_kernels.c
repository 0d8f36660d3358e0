/* Gradient descent on many small matrix factorizations at once.
 *
 * Eight runs form a block, and lie side by side in the lanes of a vector (see _lanes.h). All steps
 * of a call are done for the runs of one vector before the next one, so that their data stay in the
 * cache (see _descent.h).
 */
#include "_lanes.h"

#include <float.h>

/* The digest of the sources from which this library was built. The caller compares it with the
 * digest of the sources beside the library. */
#ifndef DMF_SOURCES
#define DMF_SOURCES ""
#endif
const char *source_digest(void) { return DMF_SOURCES; }

/* The data of a call, in the memory of the caller. In the shapes, B stands for the number of runs, b
 * for the number of blocks, and 8 for the runs of a block. An array marked "updated" is read and
 * written. */
typedef struct {
    int64_t depth;            /* L */
    const int64_t *widths;    /* d_0 … d_L */
    int64_t columns;          /* r */
    const double *input_root; /* (d_0, r), or NULL for the identity (r = d_0) */
    int64_t parameters;       /* N */
    int64_t runs;             /* B */
    double *weights;          /* (B, N), updated */
    double *velocity;         /* (B, N), updated; NULL without momentum */
    const double *target;     /* (B, d_L r) */
    const double *observed_weights; /* (B, d_L r): ω, or NULL for a weight of 1 of each entry */
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

/* Where the matrices lie in the scratch memory, counted in vectors from its start, where the
 * parameters are. After the end there is room for the inputs and outputs of a step on a part of the
 * data. */
typedef struct {
    int64_t velocity, target, weight, signals, spare[2], end;
} places;

static places places_of(const problem *p)
{
    /* A step on a part of the data has other signals than the whole loss, in the same memory. */
    const int64_t columns = p->columns > p->drawn_columns ? p->columns : p->drawn_columns;
    const int64_t outputs = p->widths[p->depth] * p->columns;
    int64_t sum = 0, widest = 0;
    for (int64_t i = 0; i <= p->depth; i++) {
        sum += p->widths[i];
        widest = p->widths[i] > widest ? p->widths[i] : widest;
    }
    places at;
    at.velocity = p->parameters;
    at.target = at.velocity + (p->velocity ? p->parameters : 0);
    at.weight = at.target + outputs;
    at.signals = at.weight + (p->observed_weights ? outputs : 0);
    at.spare[0] = at.signals + sum * columns;
    at.spare[1] = at.spare[0] + widest * columns;
    at.end = at.spare[1] + widest * columns;
    return at;
}

/* The size of the scratch memory of a call, in doubles. */
int64_t scratch_size(const problem *p)
{
    const int64_t part = (p->widths[0] + p->widths[p->depth]) * p->drawn_columns;
    return places_of(p).end * LANES + part + LANES;
}

/* The chosen rows of a matrix (n, rows), as the columns of a matrix (rows, m). */
static void gather(int64_t m, const int64_t *chosen, int64_t rows, const double *data, double *out)
{
    for (int64_t k = 0; k < m; k++)
        for (int64_t i = 0; i < rows; i++)
            out[i * m + k] = data[chosen[k] * rows + i];
}

/* The largest number of layers; the same number stands in descent/compiled_engine.py. */
#define MOST_LAYERS 256

#ifdef DMF_CLONES
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4")
#define VECTOR lanes
#define VECTOR_MASK mask
#define TILED(f) f##_of_lanes
#define NAMED(f) f##_v4
#include "_descent.h"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define VECTOR half_lanes
#define VECTOR_MASK half_mask
#define TILED(f) f##_of_halves
#define NAMED(f) f##_v3
#include "_descent.h"
#pragma GCC pop_options
#endif

#define VECTOR half_lanes
#define VECTOR_MASK half_mask
#define TILED(f) f##_of_halves
#define NAMED(f) f##_by_default
#include "_descent.h"

/* All steps of a call for the blocks from … to − 1. Returns 1 if there are too many layers, else
 * 0. */
int descend(const problem *p, int64_t from, int64_t to, double *scratch)
{
    if (p->depth > MOST_LAYERS)
        return 1;
    void *start = (void *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
#ifdef DMF_CLONES
    if (__builtin_cpu_supports("x86-64-v4"))
        descend_v4(p, from, to, start);
    else if (__builtin_cpu_supports("x86-64-v3"))
        descend_v3(p, from, to, start);
    else
#endif
        descend_by_default(p, from, to, start);
    return 0;
}

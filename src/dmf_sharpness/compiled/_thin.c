/* Products of a large matrix W, stored row by row, with a matrix Y of few columns: W Y and Wᵀ Y.
 *
 * A general product copies both factors into an order that suits it before it multiplies them. If Y has
 * few columns, copying W takes as long as a good part of the product. Here W is read where it lies, once
 * for up to MOST_COLUMNS columns, and only Y is copied. Parts of W that are needed next are fetched
 * into the cache while the present ones are used.
 *
 * Y and the result are stored column by column. Every thread computes some rows of the result, each as
 * a single thread would, so the result does not depend on the number of threads. They are the threads of
 * PyTorch's OpenMP: those wait for work in a loop for a while, and would keep others from the processor.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "_clones.h"

/* The columns of Y that a tile multiplies at a time. With three groups of W there are twelve sums,
 * which fit into the registers of a processor with sixteen. */
#define TILE_COLUMNS 4
/* Rows in a tile of W Y; rows that are finished together; and numbers of a row that are used at a
 * time, so that these parts of W and Y stay in the first cache. */
#define TILE_ROWS 3
#define PANEL 96
#define BLOCK 256
/* Groups of a row in a tile of Wᵀ Y, a strip of W, and the number of rows that are used at a time. */
#define STRIP_GROUPS 3
#define STRIP (STRIP_GROUPS * GROUP)
#define STRIP_ROWS 128
/* W is read once for so many columns; for more of them the sums of a panel leave the second cache. */
#define MOST_COLUMNS 96
/* A thread takes about so many shares of the result, each of so many rows at least. */
#define SHARES 4
#define LEAST_ROWS 24
#define CACHE_LINE 64
#define LINE (CACHE_LINE / 8)

/* One product. The result has ``rows`` rows, and each of them is a sum of ``inner`` terms. W has the
 * shape (rows, inner), or (inner, rows) if it is to be transposed. */
typedef struct {
    int64_t rows, inner, columns;
    const double *W, *Y; /* Y: (columns, inner) */
    double *out;         /* (columns, rows) */
    const double *packed; /* Y in the order in which tiles read it */
} product;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
/* The columns are divided into tiles of nearly equal width. */
static int64_t tiles_of(int64_t columns) { return (columns + TILE_COLUMNS - 1) / TILE_COLUMNS; }
static int tile_width(int64_t columns, int64_t tile)
{
    const int64_t tiles = tiles_of(columns);
    return (int)(columns / tiles + (tile < columns % tiles));
}

/* Y for W Y: a part for each BLOCK of the inner index, in it one for each tile of columns, in it one for
 * each group of the inner index, in it the columns. The last group is filled up with zeros. */
static void pack_groups(const product *p, group *to)
{
    const int64_t groups = p->inner / GROUP, rest = p->inner % GROUP;
    for (int64_t from = 0; from < groups + (rest > 0);) {
        /* The rest is a part of its own. */
        const int64_t many = from < groups ? least(BLOCK / GROUP, groups - from) : 1;
        const double *y = p->Y + from * GROUP;
        for (int64_t tile = 0; tile < tiles_of(p->columns); tile++) {
            const int width = tile_width(p->columns, tile);
            for (int c = 0; c < width; c++, y += p->inner)
                if (from < groups)
                    for (int64_t k = 0; k < many; k++)
                        to[k * width + c] = *(const loose_group *)(y + k * GROUP);
                else {
                    to[c] = (group){0};
                    memcpy(to + c, y, rest * sizeof *y);
                }
            to += many * width;
        }
        from += many;
    }
}

/* Y for Wᵀ Y: a part for each STRIP_ROWS of the inner index, in it one for each tile of columns, in it the
 * rows of that tile. */
static void pack_rows(const product *p, double *to)
{
    for (int64_t from = 0; from < p->inner; from += STRIP_ROWS) {
        const int64_t many = least(STRIP_ROWS, p->inner - from);
        const double *y = p->Y + from;
        for (int64_t tile = 0; tile < tiles_of(p->columns); tile++) {
            const int width = tile_width(p->columns, tile);
            for (int c = 0; c < width; c++, y += p->inner)
                for (int64_t k = 0; k < many; k++)
                    to[k * width + c] = y[k];
            to += many * width;
        }
    }
}

/* Calls ONE(width) for a width that the compiler knows. */
#define OF_WIDTH(width, ONE)       \
    switch (width) {               \
    case 1: ONE(1); break;         \
    case 2: ONE(2); break;         \
    case 3: ONE(3); break;         \
    default: ONE(4); break;        \
    }

/* A tile of W Y: adds the products of ``many`` groups of M rows of W with N columns. A sum is a group, of
 * which the four numbers are added up at the end. */
INLINE void tile_of_rows(int M, int N, int64_t many, const double *W, int64_t stride,
                         const double *const ahead[2], const group *y, group *sums, int64_t columns)
{
    group sum[TILE_ROWS][TILE_COLUMNS];
#pragma GCC unroll 3
    for (int i = 0; i < M; i++)
#pragma GCC unroll 4
        for (int j = 0; j < N; j++)
            sum[i][j] = sums[i * columns + j];
    for (int64_t k = 0; k < many; k++) {
        group w[TILE_ROWS];
        __builtin_prefetch(ahead[0] + k * GROUP, 0, 2);
        __builtin_prefetch(ahead[1] + k * GROUP, 0, 2);
#pragma GCC unroll 3
        for (int i = 0; i < M; i++)
            w[i] = *(const loose_group *)(W + i * stride + k * GROUP);
#pragma GCC unroll 4
        for (int j = 0; j < N; j++)
#pragma GCC unroll 3
            for (int i = 0; i < M; i++)
                sum[i][j] += w[i] * y[k * N + j];
    }
#pragma GCC unroll 3
    for (int i = 0; i < M; i++)
#pragma GCC unroll 4
        for (int j = 0; j < N; j++)
            sums[i * columns + j] = sum[i][j];
}

/* Adds the products of ``many`` groups of some rows of W with all columns. */
INLINE void block_of_rows(int64_t rows, int64_t many, const double *W, int64_t stride, const group *y,
                          group *sums, int64_t columns)
{
    const int64_t tiles = tiles_of(columns);
    for (int64_t i = 0; i < rows; i += TILE_ROWS) {
        const int64_t height = least(TILE_ROWS, rows - i);
        const double *w = W + i * stride;
        const group *part = y;
        group *s = sums + i * columns;
        for (int64_t tile = 0; tile < tiles; tile++) {
            const int width = tile_width(columns, tile);
            /* The first tile fetches two of the rows after these, and the second tile the third one.
             * Beyond the end of W a fetch is of no use, and does no harm. */
            const double *next = w + height * stride + (tile ? 2 * stride : 0);
            const double *ahead[2] = {tile < 2 ? next : w, tile < 1 ? next + stride : w};
#define THREE_ROWS(N) tile_of_rows(3, N, many, w, stride, ahead, part, s, columns)
#define TWO_ROWS(N) tile_of_rows(2, N, many, w, stride, ahead, part, s, columns)
#define ONE_ROW(N) tile_of_rows(1, N, many, w, stride, ahead, part, s, columns)
            if (height == 3)
                OF_WIDTH(width, THREE_ROWS)
            else if (height == 2)
                OF_WIDTH(width, TWO_ROWS)
            else
                OF_WIDTH(width, ONE_ROW)
            part += many * width;
            s += width;
        }
    }
}

/* The rows ``first`` to ``last`` − 1 of W Y. ``scratch`` has room for PANEL × columns groups. */
CLONES static void multiply(const product *p, int64_t first, int64_t last, double *scratch)
{
    const int64_t groups = p->inner / GROUP, rest = p->inner % GROUP, columns = p->columns;
    group *sums = (group *)scratch;
    for (int64_t from = first; from < last; from += PANEL) {
        const int64_t rows = least(PANEL, last - from);
        const double *W = p->W + from * p->inner;
        const group *y = (const group *)p->packed;
        memset(sums, 0, rows * columns * sizeof *sums);
        for (int64_t k = 0; k < groups; k += BLOCK / GROUP) {
            const int64_t many = least(BLOCK / GROUP, groups - k);
            block_of_rows(rows, many, W + k * GROUP, p->inner, y + k * columns, sums, columns);
        }
        if (rest) {
            group ends[PANEL] = {{0}};
            for (int64_t i = 0; i < rows; i++)
                memcpy(ends + i, W + i * p->inner + groups * GROUP, rest * sizeof *W);
            block_of_rows(rows, 1, (double *)ends, GROUP, y + groups * columns, sums, columns);
        }
        for (int64_t c = 0; c < columns; c++)
            for (int64_t i = 0; i < rows; i++) {
                const group sum = sums[i * columns + c];
                p->out[c * p->rows + from + i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
            }
    }
}

/* A tile of Wᵀ Y: adds the products of a strip of W with N columns. The ``first`` tile of a strip reads W,
 * whose rows may be far apart, and copies the strip for those that follow. */
INLINE void tile_of_strip(int N, int first, int64_t many, const double *W, int64_t stride, group *strip,
                          const double *y, double *out, int64_t rows)
{
    group sum[STRIP_GROUPS][TILE_COLUMNS] = {{{0}}};
    for (int64_t k = 0; k < many; k++) {
        group w[STRIP_GROUPS];
#pragma GCC unroll 3
        for (int i = 0; i < STRIP_GROUPS; i++) {
            if (first)
                strip[k * STRIP_GROUPS + i] = *(const loose_group *)(W + k * stride + i * GROUP);
            w[i] = strip[k * STRIP_GROUPS + i];
        }
        if (first) {
            /* The strip after the next one, in two lines at most. */
            __builtin_prefetch(W + k * stride + 2 * STRIP, 0, 2);
            __builtin_prefetch(W + k * stride + 2 * STRIP + LINE, 0, 2);
        }
#pragma GCC unroll 4
        for (int j = 0; j < N; j++)
#pragma GCC unroll 3
            for (int i = 0; i < STRIP_GROUPS; i++)
                sum[i][j] += w[i] * y[k * N + j];
    }
#pragma GCC unroll 4
    for (int j = 0; j < N; j++)
#pragma GCC unroll 3
        for (int i = 0; i < STRIP_GROUPS; i++)
            *(loose_group *)(out + j * rows + i * GROUP) += sum[i][j];
}

/* The rows ``first`` to ``last`` − 1 of Wᵀ Y; ``first`` is a multiple of STRIP. ``scratch`` has room for
 * STRIP × (STRIP_ROWS + columns) numbers. */
CLONES static void multiply_transposed(const product *p, int64_t first, int64_t last, double *scratch)
{
    const int64_t columns = p->columns;
    group *strip = (group *)scratch;
    double *edge = scratch + STRIP * STRIP_ROWS;
    for (int64_t c = 0; c < columns; c++)
        memset(p->out + c * p->rows + first, 0, (last - first) * sizeof *p->out);
    for (int64_t from = 0; from < p->inner; from += STRIP_ROWS) {
        const int64_t many = least(STRIP_ROWS, p->inner - from);
        for (int64_t j = first; j < last; j += STRIP) {
            const double *W = p->W + from * p->rows + j, *y = p->packed + from * columns;
            const int64_t whole = last - j >= STRIP, stride = p->rows;
            double *out = p->out + j;
            int64_t rows = p->rows;
            if (!whole) {
                /* An incomplete strip is filled up with zeros, and its sums are copied. */
                memset(strip, 0, many * STRIP * sizeof *W);
                for (int64_t k = 0; k < many; k++)
                    memcpy(strip + k * STRIP_GROUPS, W + k * stride, (last - j) * sizeof *W);
                memset(edge, 0, columns * STRIP * sizeof *edge);
                out = edge;
                rows = STRIP;
            }
            for (int64_t tile = 0; tile < tiles_of(columns); tile++) {
                const int width = tile_width(columns, tile);
#define FROM_W(N) tile_of_strip(N, 1, many, W, stride, strip, y, out, rows)
#define FROM_STRIP(N) tile_of_strip(N, 0, many, W, stride, strip, y, out, rows)
                if (tile == 0 && whole)
                    OF_WIDTH(width, FROM_W)
                else
                    OF_WIDTH(width, FROM_STRIP)
                y += many * width;
                out += width * rows;
            }
            for (int64_t c = 0; c < columns && !whole; c++)
                for (int64_t i = 0; i < last - j; i++)
                    p->out[c * p->rows + j + i] += edge[c * STRIP + i];
        }
    }
}

/* A product and the state of the threads that share it. */
typedef struct {
    product of;
    int transposed;
    int64_t shares; /* parts of the result, more than there are threads */
    double *scratch;
    int64_t scratch_size; /* of one thread */
    int64_t next_share, next_scratch;
} task;

static int64_t taken(int64_t *next) { return __atomic_fetch_add(next, 1, __ATOMIC_RELAXED); }

/* What each thread does: it takes shares as long as there are any. */
static void work(void *given)
{
    task *t = given;
    const product *p = &t->of;
    const int64_t unit = t->transposed ? STRIP : TILE_ROWS, units = (p->rows + unit - 1) / unit;
    double *scratch = t->scratch + taken(&t->next_scratch) * t->scratch_size;
    for (int64_t s = taken(&t->next_share); s < t->shares; s = taken(&t->next_share)) {
        const int64_t first = units * s / t->shares * unit;
        const int64_t last = least(p->rows, units * (s + 1) / t->shares * unit);
        if (t->transposed)
            multiply_transposed(p, first, last, scratch);
        else
            multiply(p, first, last, scratch);
    }
}

static int64_t lines_of(int64_t numbers) { return (numbers + LINE - 1) / LINE * LINE; }

/* Up to MOST_COLUMNS columns of a product. */
static int some_columns(product p, int transposed, int64_t threads, parallel *start)
{
    const int64_t packed = lines_of((p.inner + GROUP) * p.columns);
    const int64_t own = lines_of(transposed ? STRIP * (STRIP_ROWS + p.columns)
                                            : PANEL * p.columns * GROUP);
    const int64_t shares = p.rows / LEAST_ROWS + 1;
    threads = start ? least(threads, shares) : 1;
    double *memory = aligned_alloc(CACHE_LINE, (packed + threads * own) * sizeof *memory);
    if (!memory)
        return 1;
    if (transposed)
        pack_rows(&p, memory);
    else
        pack_groups(&p, (group *)memory);
    p.packed = memory;
    task t = {.of = p,
              .transposed = transposed,
              .shares = least(shares, threads * SHARES),
              .scratch = memory + packed,
              .scratch_size = own};
    if (threads > 1)
        start(work, &t, (unsigned)threads, 0);
    else
        work(&t);
    free(memory);
    return 0;
}

/* out = W Y, or Wᵀ Y; on one thread if ``start`` is NULL. Returns 1 if there is too little memory, else 0. */
int thin_product(int transposed, int64_t rows, int64_t inner, int64_t columns, const double *W,
                 const double *Y, double *out, int64_t threads, parallel *start)
{
    for (int64_t c = 0; c < columns; c += MOST_COLUMNS) {
        const product p = {.rows = rows,
                           .inner = inner,
                           .columns = least(MOST_COLUMNS, columns - c),
                           .W = W,
                           .Y = Y + c * inner,
                           .out = out + c * rows};
        if (some_columns(p, transposed, threads, start))
            return 1;
    }
    return 0;
}

/* Whether this processor is of the kind on which the products were measured to be faster than general ones. */
int thin_product_is_fast(void)
{
#ifdef DMF_CLONES
    return __builtin_cpu_supports("x86-64-v3") && !__builtin_cpu_supports("x86-64-v4");
#else
    return 0;
#endif
}

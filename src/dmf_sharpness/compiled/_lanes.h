/* Eight problems side by side in the lanes of one vector, and products of small matrices of such vectors.
 *
 * The layout is (block of 8, matrix entry, lane): the small matrices of one problem need no vectorization
 * of their own, no lane is empty whatever the widths are, and the arithmetic of a problem does not depend
 * on which are its neighbours.
 */
#ifndef DMF_LANES_H
#define DMF_LANES_H

#include <stddef.h>
#include <stdint.h>

#define LANES 8
typedef double lanes __attribute__((vector_size(8 * LANES)));
typedef int64_t mask __attribute__((vector_size(8 * LANES)));

/* One binary for old and new processors: the loader picks the clone that the machine can run.
 * It does so before a sanitizer is ready, so a build with sanitizers defines DMF_NO_CLONES. */
#if !defined(DMF_NO_CLONES) && defined(__x86_64__) && defined(__linux__) \
    && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

/* Accumulators of a tile: 25 of the 32 vector registers, each operand loaded is used 5 times. */
#define TILE 5

/* What to do with a finished entry of a product. */
enum { STORE, ADD, DESCEND, MOMENTUM, NESTEROV };

/* Everything that the update of a parameter needs. */
typedef struct {
    lanes *velocity;
    const lanes *eta;
    const mask *live;
    double momentum;
} update;

INLINE lanes select_lanes(mask which, lanes yes, lanes no)
{
    return (lanes)(((mask)yes & which) | ((mask)no & ~which));
}

/* C[i,j] for a tile of M × N entries, C = A B with any strides (in vectors): transposes are free. */
INLINE void tile(int M, int N, int64_t depth, const lanes *A, int64_t a_row, int64_t a_inner,
                 const lanes *B, int64_t b_inner, int64_t b_column, lanes *C, int64_t c_row,
                 int kind, const update *u, int64_t offset)
{
    lanes sum[TILE][TILE];
#pragma GCC unroll 5
    for (int i = 0; i < M; i++)
#pragma GCC unroll 5
        for (int j = 0; j < N; j++)
            sum[i][j] = A[i * a_row] * B[j * b_column];
    for (int64_t k = 1; k < depth; k++) {
        lanes b[TILE];
#pragma GCC unroll 5
        for (int j = 0; j < N; j++)
            b[j] = B[k * b_inner + j * b_column];
#pragma GCC unroll 5
        for (int i = 0; i < M; i++) {
            lanes a = A[i * a_row + k * a_inner];
#pragma GCC unroll 5
            for (int j = 0; j < N; j++)
                sum[i][j] += a * b[j];
        }
    }
#pragma GCC unroll 5
    for (int i = 0; i < M; i++)
#pragma GCC unroll 5
        for (int j = 0; j < N; j++) {
            lanes *c = C + i * c_row + j;
            if (kind == STORE) {
                *c = sum[i][j];
                continue;
            }
            if (kind == ADD) {
                *c += sum[i][j];
                continue;
            }
            /* A run that has diverged keeps its last iterate. */
            lanes step = -*u->eta * sum[i][j];
            if (kind == DESCEND) {
                *c = select_lanes(*u->live, *c + step, *c);
                continue;
            }
            lanes *v = u->velocity + offset + i * c_row + j;
            lanes moved = u->momentum * *v + step;
            *v = select_lanes(*u->live, moved, *v);
            /* Nesterov's method at the point where it takes the gradient. */
            lanes change = kind == NESTEROV ? u->momentum * moved + step : moved;
            *c = select_lanes(*u->live, *c + change, *c);
        }
}

/* A strip of M rows, columns in tiles of nearly equal width. */
INLINE void strip(int M, int64_t columns, int64_t depth, const lanes *A, int64_t a_row,
                  int64_t a_inner, const lanes *B, int64_t b_inner, int64_t b_column, lanes *C,
                  int64_t c_row, int kind, const update *u, int64_t offset)
{
    int64_t tiles = (columns + TILE - 1) / TILE, j = 0;
    for (int64_t t = 0; t < tiles; t++) {
        int64_t width = columns / tiles + (t < columns % tiles);
#define ONE(n) tile(M, n, depth, A, a_row, a_inner, B + j * b_column, b_inner, b_column, C + j, \
                    c_row, kind, u, offset + j)
        switch (width) {
        case 1: ONE(1); break;
        case 2: ONE(2); break;
        case 3: ONE(3); break;
        case 4: ONE(4); break;
        default: ONE(5); break;
        }
        j += width;
    }
}

INLINE void product(int64_t rows, int64_t columns, int64_t depth, const lanes *A, int64_t a_row,
                    int64_t a_inner, const lanes *B, int64_t b_inner, int64_t b_column, lanes *C,
                    int kind, const update *u, int64_t offset)
{
    int64_t strips = (rows + TILE - 1) / TILE, i = 0;
    for (int64_t t = 0; t < strips; t++) {
        int64_t height = rows / strips + (t < rows % strips);
#define STRIP(m) strip(m, columns, depth, A + i * a_row, a_row, a_inner, B, b_inner, b_column, \
                       C + i * columns, columns, kind, u, offset + i * columns)
        switch (height) {
        case 1: STRIP(1); break;
        case 2: STRIP(2); break;
        case 3: STRIP(3); break;
        case 4: STRIP(4); break;
        default: STRIP(5); break;
        }
        i += height;
    }
}

CLONES static void multiply(int64_t rows, int64_t columns, int64_t depth, const lanes *A,
                            int64_t a_row, int64_t a_inner, const lanes *B, int64_t b_inner,
                            int64_t b_column, lanes *C)
{
    product(rows, columns, depth, A, a_row, a_inner, B, b_inner, b_column, C, STORE, 0, 0);
}

#endif

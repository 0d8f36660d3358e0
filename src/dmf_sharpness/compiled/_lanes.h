/* Vectors that hold eight problems side by side, and products of small matrices of such vectors.
 *
 * The entries of a vector are called lanes, and lane l belongs to problem l of a block of eight.
 * Arrays have the layout (block, matrix entry, lane). So the processor's vector instructions work
 * on eight problems at once, however small their matrices are. No lane is empty for any widths, and
 * the arithmetic of a problem does not depend on the other problems of its block.
 */
#ifndef DMF_LANES_H
#define DMF_LANES_H

#include <stddef.h>
#include <stdint.h>

#define LANES 8
typedef double lanes __attribute__((vector_size(8 * LANES)));
typedef int64_t mask __attribute__((vector_size(8 * LANES)));

/* A function with this attribute is compiled once for each kind of processor, and the loader picks
 * the version that the machine can run. It does so before a sanitizer is initialized, and therefore
 * a build with sanitizers defines DMF_NO_CLONES. */
#if !defined(DMF_NO_CLONES) && defined(__x86_64__) && defined(__linux__) \
    && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

/* The size of a tile of the product. Its 25 sums fit into the 32 vector registers, and each operand
 * that is loaded from memory is used 5 times. */
#define TILE 5

/* The uses of a finished entry of a product: store it, add it, or update a parameter with it. */
enum { STORE, ADD, DESCEND, MOMENTUM, NESTEROV };

/* The data for the update of a parameter. */
typedef struct {
    lanes *velocity;    /* of momentum; NULL without it */
    const lanes *eta;   /* step size of each run */
    const mask *live;   /* the runs that have neither converged nor diverged */
    double momentum;
} update;

/* The lanes of yes where the mask is set, and those of no elsewhere. */
INLINE lanes select_lanes(mask which, lanes yes, lanes no)
{
    return (lanes)(((mask)yes & which) | ((mask)no & ~which));
}

/* A tile of M × N entries of the product C = A B, with A of depth columns. The strides of A and B,
 * counted in vectors, are arbitrary, so that a transposed matrix needs no copy. */
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
            /* A run that has ended keeps its last iterate, while its neighbours go on. */
            lanes step = -*u->eta * sum[i][j];
            if (kind == DESCEND) {
                *c = select_lanes(*u->live, *c + step, *c);
                continue;
            }
            lanes *v = u->velocity + offset + i * c_row + j;
            lanes moved = u->momentum * *v + step;
            *v = select_lanes(*u->live, moved, *v);
            /* For Nesterov's method the stored parameters are the point at which it takes the
             * gradient. */
            lanes change = kind == NESTEROV ? u->momentum * moved + step : moved;
            *c = select_lanes(*u->live, *c + change, *c);
        }
}

/* A strip of M rows of the product, divided into tiles of nearly equal width. */
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

/* The product C = A B of any size, divided into strips of nearly equal height. */
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

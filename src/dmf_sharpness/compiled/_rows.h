/* Matrices that are stored row by row, and their products.
 *
 * In contrast to _lanes.h the numbers of a row lie side by side in a vector. A row is filled up with
 * zeros to a multiple of four numbers, so that no loop needs a remainder.
 */
#ifndef DMF_ROWS_H
#define DMF_ROWS_H

#include <stdint.h>
#include <string.h>

#include "_clones.h"

/* The size of a tile of a product: rows, and groups of columns. */
#define TILE_ROWS 6
#define TILE_GROUPS 2
/* From this number of rows on, a strip of the right factor is copied before it is used. */
#define PACKED_FROM 32

/* A matrix of which a row begins at every ``stride``-th number. The numbers between its columns and
 * the next row are zero. */
typedef struct {
    int64_t rows, columns, stride;
    double *at;
} matrix;

/* A left factor, whose entries are read one by one: A_ik is at[i row + k inner]. So a transposed
 * matrix, or one in the memory of the caller, needs no copy. */
typedef struct {
    int64_t row, inner;
    const double *at;
} operand;

static int64_t padded(int64_t columns) { return (columns + GROUP - 1) / GROUP * GROUP; }
static operand plain(const double *at, int64_t columns) { return (operand){columns, 1, at}; }
static operand flipped(const double *at, int64_t columns) { return (operand){1, columns, at}; }

/* A tile of C = A B, or of C ← C + A B. */
INLINE void tile_of_rows(int M, int N, int64_t depth, operand A, const double *B, int64_t b_stride,
                         double *C, int64_t c_stride, int add)
{
    group sum[TILE_ROWS][TILE_GROUPS];
#pragma GCC unroll 6
    for (int i = 0; i < M; i++)
#pragma GCC unroll 2
        for (int j = 0; j < N; j++)
            sum[i][j] = add ? *(group *)(C + i * c_stride + j * GROUP) : (group){0};
    for (int64_t k = 0; k < depth; k++) {
        group b[TILE_GROUPS];
#pragma GCC unroll 2
        for (int j = 0; j < N; j++)
            b[j] = *(const group *)(B + k * b_stride + j * GROUP);
#pragma GCC unroll 6
        for (int i = 0; i < M; i++) {
            const double a = A.at[i * A.row + k * A.inner];
#pragma GCC unroll 2
            for (int j = 0; j < N; j++)
                sum[i][j] += a * b[j];
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < M; i++)
#pragma GCC unroll 2
        for (int j = 0; j < N; j++)
            *(group *)(C + i * c_stride + j * GROUP) = sum[i][j];
}

/* N groups of columns of the product, divided into tiles of nearly equal height. */
INLINE void some_columns(int N, int64_t rows, int64_t depth, operand A, const double *B,
                         int64_t b_stride, double *C, int64_t c_stride, int add)
{
    int64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t t = 0; t < tiles; t++) {
        int64_t height = rows / tiles + (t < rows % tiles);
#define ROWS(m) tile_of_rows(m, N, depth, A, B, b_stride, C, c_stride, add)
        switch (height) {
        case 1: ROWS(1); break;
        case 2: ROWS(2); break;
        case 3: ROWS(3); break;
        case 4: ROWS(4); break;
        case 5: ROWS(5); break;
        default: ROWS(6); break;
        }
        A.at += height * A.row;
        C += height * c_stride;
    }
}

/* C = A B, or C ← C + A B. The strip has room for TILE_GROUPS groups of columns of B. */
CLONES static void multiply_rows(operand A, const matrix *B, matrix *C, int add, double *strip)
{
    const int64_t wide = TILE_GROUPS * GROUP, stride = C->stride;
    int64_t j = 0;
    for (; j + wide <= stride; j += wide) {
        const double *part = B->at + j;
        int64_t part_stride = stride;
        if (C->rows >= PACKED_FROM) {
            /* Rows of B that are far apart would evict one another from the cache. */
            for (int64_t k = 0; k < B->rows; k++)
                for (int64_t n = 0; n < TILE_GROUPS; n++)
                    *(group *)(strip + k * wide + n * GROUP) =
                        *(const group *)(part + k * stride + n * GROUP);
            part = strip;
            part_stride = wide;
        }
        some_columns(TILE_GROUPS, C->rows, B->rows, A, part, part_stride, C->at + j, stride, add);
    }
    if (j < stride)
        some_columns(1, C->rows, B->rows, A, B->at + j, stride, C->at + j, stride, add);
}

/* The inner product of n numbers, a multiple of GROUP. */
CLONES static double inner_product(int64_t n, const double *x, const double *y)
{
    group sums[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * GROUP <= n; i += 4 * GROUP)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            sums[k] += *(const group *)(x + i + k * GROUP) * *(const group *)(y + i + k * GROUP);
    for (; i < n; i += GROUP)
        sums[0] += *(const group *)(x + i) * *(const group *)(y + i);
    group sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* The sum of the squares of n numbers at any address. */
CLONES static double sum_of_squares(int64_t n, const double *x)
{
    loose_group sums[4] = {{0}};
    double rest = 0;
    int64_t i = 0;
    for (; i + 4 * GROUP <= n; i += 4 * GROUP)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            const loose_group part = *(const loose_group *)(x + i + k * GROUP);
            sums[k] += part * part;
        }
    for (; i < n; i++)
        rest += x[i] * x[i];
    const loose_group sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    return rest + (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* N groups of y ← Σ_j s_j k_j, or of y ← y + Σ_j s_j k_j. */
INLINE void combine_groups(int N, int64_t apart, int64_t count, const double *k, const double *s,
                           double *y, int add)
{
    group sums[4];
#pragma GCC unroll 4
    for (int g = 0; g < N; g++)
        sums[g] = add ? *(group *)(y + g * GROUP) : (group){0};
    for (int64_t j = 0; j < count; j++)
#pragma GCC unroll 4
        for (int g = 0; g < N; g++)
            sums[g] += s[j] * *(const group *)(k + j * apart + g * GROUP);
#pragma GCC unroll 4
    for (int g = 0; g < N; g++)
        *(group *)(y + g * GROUP) = sums[g];
}

/* y ← Σ_j s_j k_j for ``count`` vectors k_j of n numbers, or y ← y + Σ_j s_j k_j. The vectors begin
 * ``apart`` numbers from one another. */
CLONES static void combine_rows(int64_t n, int64_t count, const double *k, int64_t apart,
                                const double *s, double *y, int add)
{
    int64_t i = 0;
    for (; i + 4 * GROUP <= n; i += 4 * GROUP)
        combine_groups(4, apart, count, k + i, s, y + i, add);
    for (; i < n; i += GROUP)
        combine_groups(1, apart, count, k + i, s, y + i, add);
}

/* A ← A − x yᵀ for the first n columns, a multiple of GROUP, of some rows of A. */
CLONES static void subtract_outer(int64_t rows, int64_t n, const double *x, const double *y, double *A,
                                  int64_t stride)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j += GROUP)
            *(group *)(A + i * stride + j) -= x[i] * *(const group *)(y + j);
}

/* Y ← Y + X T for a symmetric tridiagonal matrix T and rows of n numbers, a multiple of GROUP. The number
 * before ``off`` is zero, and ``line`` has room for n + 2 GROUP numbers. */
CLONES static void add_rows_times_tridiagonal(int64_t rows, int64_t n, const double *X,
                                              const double *diagonal, const double *off, double *line,
                                              double *Y)
{
    double *x = line + GROUP; /* a row of X between zeros */
    memset(line, 0, GROUP * sizeof(double));
    memset(x + n, 0, GROUP * sizeof(double));
    for (int64_t i = 0; i < rows; i++) {
        memcpy(x, X + i * n, n * sizeof(double));
        for (int64_t j = 0; j < n; j += GROUP)
            *(group *)(Y + i * n + j) +=
                *(const group *)(x + j) * *(const group *)(diagonal + j)
                + *(const loose_group *)(x + j - 1) * *(const loose_group *)(off + j - 1)
                + *(const loose_group *)(x + j + 1) * *(const group *)(off + j);
    }
}

/* x ← factor x. */
CLONES static void scale_rows(int64_t n, double factor, double *x)
{
    for (int64_t i = 0; i < n; i += GROUP)
        *(group *)(x + i) *= factor;
}

/* The transposed matrix. */
static void transpose(const matrix *from, matrix *to)
{
    for (int64_t i = 0; i < to->rows; i++) {
        for (int64_t j = 0; j < to->columns; j++)
            to->at[i * to->stride + j] = from->at[j * from->stride + i];
        for (int64_t j = to->columns; j < to->stride; j++)
            to->at[i * to->stride + j] = 0;
    }
}

/* A matrix of the caller, of which the next row begins right after the last one. */
static void copy_in(const double *from, const matrix *to)
{
    for (int64_t i = 0; i < to->rows; i++) {
        for (int64_t j = 0; j < to->columns; j++)
            to->at[i * to->stride + j] = from[i * to->columns + j];
        for (int64_t j = to->columns; j < to->stride; j++)
            to->at[i * to->stride + j] = 0;
    }
}

/* The same in the other direction. */
static void copy_out(const matrix *from, double *to)
{
    for (int64_t i = 0; i < from->rows; i++)
        for (int64_t j = 0; j < from->columns; j++)
            to[i * from->columns + j] = from->at[i * from->stride + j];
}

#endif

/* The product C = A B of matrices of vectors, for one size of the vectors.
 *
 * _lanes.h includes this file once for each use, and defines before: VECTOR and VECTOR_MASK, the
 * types; PARTS, the number of such vectors of which an entry of a matrix consists; TILE_ROWS and
 * TILE_COLUMNS, at most 5; NAMED(f), the name of a function f for this use. The order of the sums
 * of an entry is the same for every use, and so is the result.
 */

/* The vector of an entry. The part of the entry is in the address of the array. */
#define AT(array, index) ((array)[(index) * PARTS])

/* An entry of B, which the lanes share if it is a number for all of them. */
INLINE VECTOR NAMED(right)(const void *B, int64_t index, int shared)
{
    if (shared)
        return ((const double *)B)[index] - (VECTOR){0}; /* minus zero leaves -0 as it is */
    return AT((const VECTOR *)B, index);
}

/* The lanes of yes where the mask is set, and those of no elsewhere. */
INLINE VECTOR NAMED(chosen)(VECTOR_MASK which, VECTOR yes, VECTOR no)
{
    return (VECTOR)(((VECTOR_MASK)yes & which) | ((VECTOR_MASK)no & ~which));
}

/* The data for the update of parameters. */
typedef struct {
    VECTOR eta;       /* step size of each run */
    VECTOR_MASK live; /* the runs that have neither converged nor diverged */
    double momentum;
    int64_t velocity; /* the distance in memory from a parameter to its velocity of momentum */
} NAMED(update);

/* The update of a parameter *c, of this gradient, by a method. */
INLINE void NAMED(update_one)(int kind, const NAMED(update) *u, VECTOR gradient, VECTOR *c)
{
    /* A run that has ended keeps its last iterate, while its neighbours go on. */
    const VECTOR step = -u->eta * gradient;
    if (kind == DESCEND) {
        *c = NAMED(chosen)(u->live, *c + step, *c);
        return;
    }
    VECTOR *v = c + u->velocity;
    const VECTOR moved = u->momentum * *v + step;
    *v = NAMED(chosen)(u->live, moved, *v);
    /* For Nesterov's method the stored parameters are the point at which it takes the gradient. */
    const VECTOR change = kind == NESTEROV ? u->momentum * moved + step : moved;
    *c = NAMED(chosen)(u->live, *c + change, *c);
}

/* A tile of M × N entries of C, with A of depth columns. The strides of A and B, counted in
 * entries, are arbitrary, so that a transposed matrix needs no copy. */
INLINE void NAMED(tile)(int M, int N, int64_t depth, const VECTOR *A, int64_t a_row,
                        int64_t a_inner, const void *B, int64_t b_inner, int64_t b_column,
                        int shared, VECTOR *C, int64_t c_row, int kind, const NAMED(update) *u)
{
    VECTOR sum[TILE_ROWS][TILE_COLUMNS];
#pragma GCC unroll 5
    for (int j = 0; j < N; j++) {
        const VECTOR b = NAMED(right)(B, j * b_column, shared);
#pragma GCC unroll 5
        for (int i = 0; i < M; i++)
            sum[i][j] = AT(A, i * a_row) * b;
    }
    for (int64_t k = 1; k < depth; k++) {
        VECTOR a[TILE_ROWS];
#pragma GCC unroll 5
        for (int i = 0; i < M; i++)
            a[i] = AT(A, i * a_row + k * a_inner);
#pragma GCC unroll 5
        for (int j = 0; j < N; j++) {
            const VECTOR b = NAMED(right)(B, k * b_inner + j * b_column, shared);
#pragma GCC unroll 5
            for (int i = 0; i < M; i++)
                sum[i][j] += a[i] * b;
        }
    }
#pragma GCC unroll 5
    for (int i = 0; i < M; i++)
#pragma GCC unroll 5
        for (int j = 0; j < N; j++) {
            VECTOR *c = &AT(C, i * c_row + j);
            if (kind < DESCEND)
                *c = kind == ADD ? *c + sum[i][j] : sum[i][j];
            else
                NAMED(update_one)(kind, u, sum[i][j], c);
        }
}

/* A strip of M rows of the product, divided into tiles of nearly equal width. */
INLINE void NAMED(strip)(int M, int one_tile, int64_t columns, int64_t depth, const VECTOR *A,
                         int64_t a_row, int64_t a_inner, const void *B, int64_t b_inner,
                         int64_t b_column, int shared, VECTOR *C, int64_t c_row, int kind,
                         const NAMED(update) *u)
{
    const int64_t tiles = one_tile ? 1 : (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
    for (int64_t t = 0, j = 0; t < tiles; t++) {
        const int64_t width = columns / tiles + (t < columns % tiles);
        for (int part = 0; part < PARTS; part++) {
            const void *b = shared ? (const void *)((const double *)B + j * b_column)
                                   : (const void *)(&AT((const VECTOR *)B, j * b_column) + part);
#define ONE(n) NAMED(tile)(M, n, depth, A + part, a_row, a_inner, b, b_inner, b_column, shared, \
                           &AT(C, j) + part, c_row, kind, u)
            switch (width) {
            case 1: ONE(1); break;
            case 2: ONE(2); break;
            case 3: ONE(3); break;
#if TILE_COLUMNS > 4
            case 5: ONE(5); break;
#endif
            default: ONE(4); break;
            }
#undef ONE
        }
        j += width;
    }
}

/* The product, divided into strips of nearly equal height, or of one tile. */
INLINE void NAMED(strips)(int one_tile, int64_t rows, int64_t columns, int64_t depth,
                          const VECTOR *A, int64_t a_row, int64_t a_inner, const void *B,
                          int64_t b_inner, int64_t b_column, int shared, VECTOR *C, int kind,
                          const NAMED(update) *u)
{
    const int64_t strips = one_tile ? 1 : (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t t = 0, i = 0; t < strips; t++) {
        const int64_t height = rows / strips + (t < rows % strips);
#define STRIP(m) NAMED(strip)(m, one_tile, columns, depth, &AT(A, i * a_row), a_row, a_inner, B, \
                              b_inner, b_column, shared, &AT(C, i * columns), columns, kind, u)
        switch (height) {
        case 1: STRIP(1); break;
        case 2: STRIP(2); break;
#if TILE_ROWS > 3
        case 4: STRIP(4); break;
        case 5: STRIP(5); break;
#endif
        default: STRIP(3); break;
        }
#undef STRIP
        i += height;
    }
}

/* The product of any size. */
INLINE void NAMED(product)(int64_t rows, int64_t columns, int64_t depth, const VECTOR *A,
                           int64_t a_row, int64_t a_inner, const void *B, int64_t b_inner,
                           int64_t b_column, int shared, VECTOR *C, int kind,
                           const NAMED(update) *u)
{
    /* The preparation of the two loops takes longer than the product of one small tile. */
    if (rows <= TILE_ROWS && columns <= TILE_COLUMNS)
        NAMED(strips)(1, rows, columns, depth, A, a_row, a_inner, B, b_inner, b_column, shared, C,
                      kind, u);
    else
        NAMED(strips)(0, rows, columns, depth, A, a_row, a_inner, B, b_inner, b_column, shared, C,
                      kind, u);
}

#undef AT
#undef VECTOR
#undef VECTOR_MASK
#undef PARTS
#undef TILE_ROWS
#undef TILE_COLUMNS
#undef NAMED

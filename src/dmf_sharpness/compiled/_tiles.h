/* The product C = A B of matrices of vectors, for one size of the vectors.
 *
 * _lanes.h includes this file once for each size, and defines before: VECTOR and VECTOR_MASK, the
 * types; PARTS, the number of such vectors that make up all lanes; TILE_ROWS and TILE_COLUMNS, at
 * most 5; NAMED(f), the name of a function f for this size. The order of the sums of an entry is
 * the same for every size, and so is the result.
 */

/* The lanes of an array that part of the vector holds. */
#define AT(array, index) (((VECTOR *)((array) + (index)))[part])

/* An entry of B, which the lanes share if it is a number for all of them. */
INLINE VECTOR NAMED(right)(const void *B, int64_t index, int shared, int part)
{
    if (shared)
        return ((const double *)B)[index] - (VECTOR){0}; /* minus zero leaves -0 as it is */
    return AT((const lanes *)B, index);
}

/* The lanes of yes where the mask is set, and those of no elsewhere. */
INLINE VECTOR NAMED(chosen)(VECTOR_MASK which, VECTOR yes, VECTOR no)
{
    return (VECTOR)(((VECTOR_MASK)yes & which) | ((VECTOR_MASK)no & ~which));
}

/* A tile of M × N entries of C, with A of depth columns. The strides of A and B, counted in
 * entries, are arbitrary, so that a transposed matrix needs no copy. */
INLINE void NAMED(tile)(int M, int N, int64_t depth, const lanes *A, int64_t a_row,
                        int64_t a_inner, const void *B, int64_t b_inner, int64_t b_column,
                        int shared, lanes *C, int64_t c_row, int kind, const update *u,
                        int64_t offset, int part)
{
    VECTOR sum[TILE_ROWS][TILE_COLUMNS];
#pragma GCC unroll 5
    for (int j = 0; j < N; j++) {
        const VECTOR b = NAMED(right)(B, j * b_column, shared, part);
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
            const VECTOR b = NAMED(right)(B, k * b_inner + j * b_column, shared, part);
#pragma GCC unroll 5
            for (int i = 0; i < M; i++)
                sum[i][j] += a[i] * b;
        }
    }
    const VECTOR eta = kind < DESCEND ? (VECTOR){0} : AT(u->eta, 0);
    const VECTOR_MASK live = kind < DESCEND ? (VECTOR_MASK){0} : (VECTOR_MASK)AT(u->live, 0);
#pragma GCC unroll 5
    for (int i = 0; i < M; i++)
#pragma GCC unroll 5
        for (int j = 0; j < N; j++) {
            VECTOR *c = &AT(C, i * c_row + j);
            if (kind < DESCEND) {
                *c = kind == ADD ? *c + sum[i][j] : sum[i][j];
                continue;
            }
            /* A run that has ended keeps its last iterate, while its neighbours go on. */
            VECTOR step = -eta * sum[i][j];
            if (kind == DESCEND) {
                *c = NAMED(chosen)(live, *c + step, *c);
                continue;
            }
            VECTOR *v = &AT(u->velocity, offset + i * c_row + j);
            VECTOR moved = u->momentum * *v + step;
            *v = NAMED(chosen)(live, moved, *v);
            /* For Nesterov's method the stored parameters are the point at which it takes the
             * gradient. */
            VECTOR change = kind == NESTEROV ? u->momentum * moved + step : moved;
            *c = NAMED(chosen)(live, *c + change, *c);
        }
}

/* A strip of M rows of the product, divided into tiles of nearly equal width. */
INLINE void NAMED(strip)(int M, int64_t columns, int64_t depth, const lanes *A, int64_t a_row,
                         int64_t a_inner, const void *B, int64_t b_inner, int64_t b_column,
                         int shared, lanes *C, int64_t c_row, int kind, const update *u,
                         int64_t offset)
{
    const int64_t tiles = (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
    for (int64_t t = 0, j = 0; t < tiles; t++) {
        const int64_t width = columns / tiles + (t < columns % tiles);
        const void *b = shared ? (const void *)((const double *)B + j * b_column)
                               : (const void *)((const lanes *)B + j * b_column);
        for (int part = 0; part < PARTS; part++) {
#define ONE(n) NAMED(tile)(M, n, depth, A, a_row, a_inner, b, b_inner, b_column, shared, C + j, \
                           c_row, kind, u, offset + j, part)
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

/* The product of any size, divided into strips of nearly equal height. */
INLINE void NAMED(product)(int64_t rows, int64_t columns, int64_t depth, const lanes *A,
                           int64_t a_row, int64_t a_inner, const void *B, int64_t b_inner,
                           int64_t b_column, int shared, lanes *C, int kind, const update *u,
                           int64_t offset)
{
    const int64_t strips = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t t = 0, i = 0; t < strips; t++) {
        const int64_t height = rows / strips + (t < rows % strips);
#define STRIP(m) NAMED(strip)(m, columns, depth, A + i * a_row, a_row, a_inner, B, b_inner, \
                              b_column, shared, C + i * columns, columns, kind, u, \
                              offset + i * columns)
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

#undef AT
#undef VECTOR
#undef VECTOR_MASK
#undef PARTS
#undef TILE_ROWS
#undef TILE_COLUMNS
#undef NAMED

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

#include "_clones.h"

#define LANES 8
typedef double lanes __attribute__((vector_size(8 * LANES)));
typedef int64_t mask __attribute__((vector_size(8 * LANES)));

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

/* Half of the lanes. Without AVX-512 there are 16 registers for four numbers each, or fewer for
 * fewer: the 12 sums of a tile of halves and the operands fit into them, those of whole vectors do
 * not. */
typedef double half_lanes __attribute__((vector_size(4 * LANES)));
typedef int64_t half_mask __attribute__((vector_size(4 * LANES)));

#define VECTOR half_lanes
#define VECTOR_MASK half_mask
#define PARTS 2
#define TILE_ROWS 3
#define TILE_COLUMNS 4
#define NAMED(f) f##_of_halves
#include "_tiles.h"

#ifdef DMF_CLONES
/* With AVX-512 the 25 sums of a tile of whole vectors fit into the 32 registers. */
#define VECTOR lanes
#define VECTOR_MASK mask
#define PARTS 1
#define TILE_ROWS 5
#define TILE_COLUMNS 5
#define NAMED(f) f##_of_lanes
#include "_tiles.h"
#endif

#define PARAMETERS int64_t rows, int64_t columns, int64_t depth, const lanes *A, int64_t a_row, \
                   int64_t a_inner, const void *B, int64_t b_inner, int64_t b_column, lanes *C, \
                   const update *u, int64_t offset
#define PRODUCT(size, shared, kind) product_of_##size(rows, columns, depth, A, a_row, a_inner, B, \
                                                      b_inner, b_column, shared, C, kind, u, offset)

/* The definition of a function for products: whether the lanes share the numbers of B, and what
 * becomes of an entry. */
#ifdef DMF_CLONES
#define DEFINE_PRODUCT(name, shared, kind) \
    __attribute__((target("arch=x86-64-v4"))) static void name##_wide(PARAMETERS) \
    { \
        PRODUCT(lanes, shared, kind); \
    } \
    __attribute__((target_clones("arch=x86-64-v3", "default"))) \
    static void name##_narrow(PARAMETERS) \
    { \
        PRODUCT(halves, shared, kind); \
    } \
    static void name(PARAMETERS) \
    { \
        (__builtin_cpu_supports("x86-64-v4") ? name##_wide : name##_narrow)( \
            rows, columns, depth, A, a_row, a_inner, B, b_inner, b_column, C, u, offset); \
    }
#else
#define DEFINE_PRODUCT(name, shared, kind) \
    static void name(PARAMETERS) { PRODUCT(halves, shared, kind); }
#endif

DEFINE_PRODUCT(store_product, 0, STORE)

static void multiply(int64_t rows, int64_t columns, int64_t depth, const lanes *A, int64_t a_row,
                     int64_t a_inner, const lanes *B, int64_t b_inner, int64_t b_column, lanes *C)
{
    store_product(rows, columns, depth, A, a_row, a_inner, B, b_inner, b_column, C, 0, 0);
}

#endif

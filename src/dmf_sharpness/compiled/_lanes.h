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

/* The products of matrices whose entries are whole vectors, half by half. */
#define VECTOR half_lanes
#define VECTOR_MASK half_mask
#define PARTS 2
#define TILE_ROWS 3
#define TILE_COLUMNS 4
#define NAMED(f) f##_by_halves
#include "_tiles.h"

/* The products of matrices whose entries are halves. */
#define VECTOR half_lanes
#define VECTOR_MASK half_mask
#define PARTS 1
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

#endif

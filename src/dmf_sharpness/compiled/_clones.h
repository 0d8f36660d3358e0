/* Attributes of functions in the compiled kernels, and types that several of them use. */
#ifndef DMF_CLONES_H
#define DMF_CLONES_H

/* A function with this attribute is compiled once for each kind of processor, and the loader picks
 * the version that the machine can run. It does so before a sanitizer is initialized, and therefore
 * a build with sanitizers defines DMF_NO_CLONES. */
#if !defined(DMF_NO_CLONES) && defined(__x86_64__) && defined(__linux__) \
    && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define DMF_CLONES
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

/* Four numbers of a row. Wider vectors would leave too few registers for the sums of a tile on
 * processors without AVX-512. */
#define GROUP 4
typedef double group __attribute__((vector_size(8 * GROUP)));
/* The same at any address. */
typedef double loose_group __attribute__((vector_size(8 * GROUP), aligned(8)));

/* The function GOMP_parallel of an OpenMP runtime: it calls a function on so many threads at once. */
typedef void parallel(void (*)(void *), void *, unsigned threads, unsigned flags);

#endif

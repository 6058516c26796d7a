/* The one door to the heap. Every allocation in native/ goes through these three names, so that a test may make any of
 * them fail: with PUGD_TEST_MEMORY defined the test supplies the functions, else they are the C library's own.
 * Any allocation may fail, and then the caller's old state still holds.
 */
#ifndef PUGD_MEMORY_H
#define PUGD_MEMORY_H

#include <stdlib.h>

#ifdef PUGD_TEST_MEMORY
void *pugd_malloc(size_t size);
void *pugd_calloc(size_t count, size_t size);
void *pugd_realloc(void *old, size_t size);
void pugd_free(void *old);
#else
#define pugd_malloc malloc
#define pugd_calloc calloc
#define pugd_realloc realloc
#define pugd_free free
#endif

#endif

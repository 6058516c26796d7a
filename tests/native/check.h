/* How a C test says what broke: where and what, and its function returns 1. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                                                 \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

#endif

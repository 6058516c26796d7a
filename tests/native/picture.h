/* The whole picture of a graph that nobody changes meanwhile, for a test to compare others with. */
#ifndef PICTURE_H
#define PICTURE_H

#include "graph.h"

#include <stdlib.h>
#include <string.h>

/* returns how many bytes it has, or 0 where it could not be taken or is longer than `room`. */
static size_t picture_of(struct pugd_graph *graph, uint8_t *out, size_t room)
{
    enum { PIECE = 64 << 10 };
    uint8_t *piece = malloc(PIECE);
    size_t bytes = 0;
    int64_t n = -1;
    if (piece && !pugd_graph_save_begin(graph)) {
        while ((n = pugd_graph_save_next(graph, piece, PIECE)) > 0 && bytes + (size_t)n <= room) {
            memcpy(out + bytes, piece, (size_t)n);
            bytes += (size_t)n;
        }
        pugd_graph_save_end(graph);
    }
    free(piece);
    return n ? 0 : bytes;
}

#endif

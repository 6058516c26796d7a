// sources: saving.c graph.c extras.c ids.c siphash.c pages.c
/* A picture of a graph of many blocks, taken by one thread while another links, learns user ids and takes persons apart:
 * to the byte the picture of what was there before, taken while nobody changed it. */
#include "check.h"
#include "graph.h"
#include "picture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDS 6000
#define ROUNDS 6

static uint64_t state = 1, order;
static struct pugd_graph *graph;
static uint8_t *picture;
static int64_t picture_bytes;

static uint64_t any(uint64_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
}

/* Persons of up to 16 ids that follow one another, so that many links are extra ones. */
static void change(void)
{
    uint64_t a = any(IDS), b = a - a % 16 + any(16);
    order += 1;
    if (order % 16 == 0)
        pugd_graph_user(graph, 1 + a, NULL, 0);
    else if (order % 97 == 0)
        pugd_graph_scatter(graph, 1 + a);
    else
        pugd_graph_link(graph, 1 + a, 1 + b, order, NULL, 0);
}

static void *save(void *room)
{
    int64_t n;
    picture_bytes = 0;
    while ((n = pugd_graph_save_next(graph, picture + picture_bytes, *(size_t *)room)) > 0) picture_bytes += n;
    if (n < 0) picture_bytes = -1;
    return NULL;
}

int main(void)
{
    const uint8_t key[16] = {0};
    size_t room[] = {8192, 100000};
    CHECK(graph = pugd_graph_new(key));
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 20000; i++) change();
        struct pugd_graph_numbers numbers = pugd_graph_statistics(graph);
        size_t bytes = (size_t)numbers.ids * PUGD_GRAPH_RECORD + (size_t)numbers.extras * PUGD_GRAPH_EXTRA;
        uint8_t *then = malloc(bytes);
        picture = malloc(bytes + 100000);
        CHECK(then && picture);
        CHECK(picture_of(graph, then, bytes) == bytes);
        CHECK(numbers.extras > 2000);
        CHECK(pugd_graph_save_begin(graph) == 0);
        if (round % 2) /* some blocks are copied before the thread begins */
            for (int i = 0; i < 500; i++) change();
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, save, &room[round / 2 % 2]) == 0);
        for (int i = 0; i < 20000; i++) change();
        pthread_join(thread, NULL);
        pugd_graph_save_end(graph);
        CHECK(picture_bytes == (int64_t)bytes);
        CHECK(!memcmp(picture, then, bytes));
        free(then);
        free(picture);
    }
    pugd_graph_free(graph);
    return 0;
}

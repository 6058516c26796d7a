// sources: pages.c
/* Chunks as the system gives them: whole, zeroed, on their boundary, apart from one another; few or many, taken in haste
 * or slowly enough that the thread is ahead. */
#include "check.h"
#include "pages.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define CHUNKS 24

static int take(uint32_t count, int slowly, int patient)
{
    struct pugd_pages pages;
    uint8_t *chunk[CHUNKS];
    CHECK(pugd_pages_open(&pages) == 0);
    pages.patient = patient;
    for (uint32_t i = 0; i < count; i++) {
        chunk[i] = pugd_pages_take(&pages);
        CHECK(chunk[i] && (uintptr_t)chunk[i] % PUGD_PAGES_CHUNK == 0);
        for (size_t at = 0; at < PUGD_PAGES_CHUNK; at += 512) CHECK(chunk[i][at] == 0);
        memset(chunk[i], (int)i + 1, PUGD_PAGES_CHUNK);
        struct timespec wait = {0, 20000000};
        if (slowly) nanosleep(&wait, NULL);
    }
    CHECK(pages.taken == count && pages.running == (count > PUGD_PAGES_PLAIN));
    CHECK(!patient || count <= PUGD_PAGES_PLAIN || pages.huge == count - PUGD_PAGES_PLAIN);
    uint32_t ahead = pages.running ? PUGD_PAGES_READY : 0;
    CHECK(pugd_pages_bytes(&pages) == (uint64_t)(count + ahead) * PUGD_PAGES_CHUNK);
    if (slowly && count == CHUNKS) CHECK(pages.huge > CHUNKS / 2); /* the thread was ahead */
    for (uint32_t i = 0; i < count; i++) {
        for (size_t at = 0; at < PUGD_PAGES_CHUNK; at += 4096) CHECK(chunk[i][at] == i + 1);
        pugd_pages_give(chunk[i]);
    }
    pugd_pages_close(&pages);
    return 0;
}

int main(void)
{
    const uint32_t counts[] = {0, 1, PUGD_PAGES_PLAIN, PUGD_PAGES_PLAIN + 1, CHUNKS};
    for (int i = 0; i < 5; i++)
        if (take(counts[i], 0, 0) || take(counts[i], 0, 1)) return 1;
    return take(CHUNKS, 1, 0);
}

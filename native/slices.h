/* Where a large JSON body can be cut into several, each with some of its events, without reading it: one walk over its
 * brackets, quotes and commas. What it takes for a value may be none; whoever reads the piece that holds it will say so.
 * What it finds no end of, or could be read in two ways, it refuses.
 *
 * cost    about a nanosecond a byte; no memory of its own, no recursion
 * state   none
 */
#ifndef PUGD_SLICES_H
#define PUGD_SLICES_H

#include <stddef.h>
#include <stdint.h>

#define PUGD_SLICES_BROKEN (-1)    /* no end, or something else where a comma or a bracket should be */
#define PUGD_SLICES_TOO_MANY (-2)  /* more than `events_max` events */
#define PUGD_SLICES_AMBIGUOUS (-3) /* a key of the outermost object is escaped, or names the events twice */

/* The events are the elements of the array that is the member `name` of the outermost object (where `name` is not
 * empty); or of the outermost array (where `list`); or objects one after another (where `lines`).
 *
 * A piece holds at most `piece_events` of them, and as many as fit into `piece_bytes`, but one at least.
 *
 * returns  how many pieces: cuts[0] and cuts[1] are where what stands before the events ends, and where what stands
 *          behind them begins; piece number i is cuts[2 + 3i] to cuts[3 + 3i] and holds cuts[4 + 3i] events. 0: there is
 *          no such array, or nothing in it. Below 0: one of the above. `room`, in numbers, must hold 2 + 3 of
 *          2·length/piece_bytes + events_max/piece_events + 2 pieces. */
int64_t pugd_slices(const uint8_t *data, size_t length, const uint8_t *name, size_t name_length, int list, int lines,
                    uint64_t events_max, uint64_t piece_events, uint64_t piece_bytes, uint64_t *cuts, size_t room);

#endif

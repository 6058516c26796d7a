/* Which distinct ids are one person: union-find over handles (ids.h), with what a person needs kept at its root.
 *
 * A handle's fields, 28 bytes, with ids.h's index 37 to 40 an id:
 *
 *   ids.h   u64 actor
 *           u32 parent          the root has itself
 *           u32 next            the person's ids in a circle; top bit: it is a user id
 *   here    at a root                            at every other
 *           u32 size            ids              u32 proof        the id beside it in the proof forest, nearer the root
 *           u32 representative                   u64 order        the link-log place of the link between the two
 *           u32 rank            of the first user id, 0 where there is none
 *
 * Root: of two, that of the larger person, and of equals the lower handle. So everything follows from the links and
 * their order alone, not from what was asked in between (asking halves paths; a dump writes roots, not parents).
 * Representative: the first user id in link-log order (users are ranked as they become such), else the earliest linked
 * id (the lowest handle).
 * Proof forest: each link that joined two persons is one edge, the smaller tree turned over and hung onto the larger,
 * so its root is the person's root. The path between two ids is why they are one.
 *
 * Cost: find O(α(n)), link O(ids of the smaller person) for the proof and for listing who moved, with no allocation but
 * for new ids. Nothing here pauses as it grows. One thread at a time; pugd_graph_resolve_many and the other functions
 * that take a const graph write nothing, and may run beside one another.
 * Source: Tarjan and van Leeuwen 1984 (path halving); Nieuwenhuis and Oliveras 2005 (proof forest).
 */
#ifndef PUGD_GRAPH_H
#define PUGD_GRAPH_H

#include "ids.h"

#define PUGD_GRAPH_RECORD 28 /* bytes an id in a dump */

struct pugd_graph;

struct pugd_graph_numbers {
    uint32_t ids;
    uint32_t users;
    uint32_t joins; /* ids less persons: links that joined two */
    uint64_t bytes;
};

struct pugd_graph_entry {
    uint64_t order;
    uint64_t a;
    uint64_t b;
    uint64_t user; /* 1: `a` is a user id, and there is no link */
};

/* NULL where memory is short. */
struct pugd_graph *pugd_graph_new(const uint8_t key[16]);
void pugd_graph_free(struct pugd_graph *graph);

/* The actor of a distinct id of a project. */
uint64_t pugd_graph_actor(const struct pugd_graph *graph, uint32_t project, const uint8_t *text, size_t length);

/* The representative of the actor's person; the actor itself where it is in no link. */
uint64_t pugd_graph_find(struct pugd_graph *graph, uint64_t actor);

/* How many ids its person has: 1 where it is in no link. */
uint32_t pugd_graph_size(const struct pugd_graph *graph, uint64_t actor);

/* Is it in the graph; is it a user id; does its person own a user id? */
int pugd_graph_knows(const struct pugd_graph *graph, uint64_t actor);
int pugd_graph_is_user(const struct pugd_graph *graph, uint64_t actor);
int pugd_graph_owns_user(const struct pugd_graph *graph, uint64_t actor);

/* The actors of its person, itself first. returns how many there are; writes at most `max` of them. */
uint32_t pugd_graph_members(const struct pugd_graph *graph, uint64_t actor, uint64_t *actors, uint32_t max);

/* Make room for a and b, so that the pugd_graph_user and pugd_graph_link of them that follow cannot fail: what one
 * proposal says is applied whole or not at all. returns 0, or -1 where memory is short. */
int pugd_graph_reserve(struct pugd_graph *graph, uint64_t a, uint64_t b);

/* `actor` is a user id. returns how many actors have another representative now, of which moved[] gets at most `max`;
 * -1 where memory is short, and the graph is as it was. */
int64_t pugd_graph_user(struct pugd_graph *graph, uint64_t actor, uint64_t *moved, uint32_t max);

/* `a` and `b` are one person. returns, like pugd_graph_user, the actors that have another representative now or are
 * linked for the first time; 0 where they were one already. */
int64_t pugd_graph_link(struct pugd_graph *graph, uint64_t a, uint64_t b, uint64_t order, uint64_t *moved,
                        uint32_t max);

/* Many entries of the link log at once. returns how many were applied: fewer than `count` where memory is short. */
size_t pugd_graph_replay(struct pugd_graph *graph, const struct pugd_graph_entry *entries, size_t count);

/* Why a and b are one person: the orders of the links on the way from one to the other. returns how many, of which
 * orders[] gets at most `max`; -1 where they are not one. */
int64_t pugd_graph_explain(const struct pugd_graph *graph, uint64_t a, uint64_t b, uint64_t *orders, uint32_t max);

/* A batch of events. `packed` is a MessagePack array of 3 × count values: project, user id, anonymous id ('' for none).
 * actors[i] gets the user id's actor if there is one, else the anonymous id's; look[] gets, in order, the events that
 * the rules must look at: whose user id is not yet known as one, or whose two ids are not one person.
 * returns how many of those; -1 where `packed` is not of that form, or an event has neither id. */
int64_t pugd_graph_resolve_many(const struct pugd_graph *graph, const uint8_t *packed, size_t length, uint32_t count,
                                uint64_t *actors, uint32_t *look);

/* Records of the ids [from, from + count), counted from 0: actor, root, next, and the last three fields, little-endian.
 * returns how many were written. Equal link logs give equal bytes. */
uint32_t pugd_graph_dump(const struct pugd_graph *graph, uint32_t from, uint32_t count, uint8_t *out);

/* Fill an empty graph with the records of a dump. returns 0; -1 where memory is short; -2 where they cannot be one.
 * After either the graph may only be freed. */
int pugd_graph_load(struct pugd_graph *graph, const uint8_t *records, uint32_t count);

struct pugd_graph_numbers pugd_graph_statistics(const struct pugd_graph *graph);

#endif

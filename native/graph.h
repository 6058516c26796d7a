/* Which distinct ids are one person: handles (ids.h) in flat persons, with what a person needs kept at its root.
 *
 * A handle's fields, 32 bytes, with ids.h's index 41 to 46 an id:
 *
 *   ids.h   u64 actor
 *           u32 person          the handle of the person's root; the root has itself
 *           u32 next            the person's ids in a circle; top bit: it is a user id
 *   here    u32 rank            the how-manieth user id it was, 0 where it is none
 *                               at a root                    at every other
 *           u32 size            ids                          u32 proof   the id beside it in the proof forest, nearer
 *                                                                        the root
 *           u64 extras          how many extra links        u64 order   the link-log place of the link between the two
 *
 * Root: the person's representative, which is its first user id in link-log order (the lowest rank), else its earliest
 * linked id (the lowest handle). A join points every id of the person that loses its representative at the other's, so
 * a look-up is one step, and a reader writes nothing. Those ids are also the ones whose row in `person_of` changes and
 * a person is bounded (rules.py, ids_max): pointing them costs a small part of saying so.
 * Proof forest: each link that joined two persons is one edge, the tree of the one turned over and hung onto the other,
 * so that its root is the person's root. The path between two ids is why they are one.
 * Extra links (extras.h): links of two ids that were one person already and had no link between them. They prove
 * nothing now, and count when another link is taken out.
 *
 * So everything follows from the links and their order alone, not from what was asked in between.
 *
 * Cost: find one step, link O(ids that move), with no allocation but for new ids. Nothing here pauses as it grows. One
 * thread at a time; the functions that take a const graph write nothing, and may run beside one another.
 * Source: Nieuwenhuis and Oliveras 2005 (proof forest); Galler and Fischer 1964 for what was made flat here.
 */
#ifndef PUGD_GRAPH_H
#define PUGD_GRAPH_H

#include "ids.h"

#define PUGD_GRAPH_RECORD 32 /* bytes an id in a picture */
#define PUGD_GRAPH_EXTRA 16  /* bytes an extra link in a picture */

struct pugd_graph;

struct pugd_graph_numbers {
    uint32_t ids;
    uint32_t users;
    uint32_t joins;  /* ids less persons: links that joined two */
    uint32_t extras; /* links of ids that were one person already */
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
uint64_t pugd_graph_find(const struct pugd_graph *graph, uint64_t actor);

/* How many ids its person has: 1 where it is in no link. */
uint32_t pugd_graph_size(const struct pugd_graph *graph, uint64_t actor);

/* How many extra links its person has. */
uint64_t pugd_graph_extras_of(const struct pugd_graph *graph, uint64_t actor);

/* Its handle, 0 where it is not in the graph: lower is earlier. The how-manieth user id it was, 0 where it is none. Does
 * its person own a user id? */
uint32_t pugd_graph_handle(const struct pugd_graph *graph, uint64_t actor);
uint32_t pugd_graph_rank(const struct pugd_graph *graph, uint64_t actor);
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
 * linked for the first time; 0 where they were one already: then the link is kept as an extra one, unless there is a
 * link of these two. */
int64_t pugd_graph_link(struct pugd_graph *graph, uint64_t a, uint64_t b, uint64_t order, uint64_t *moved,
                        uint32_t max);

/* Is there a link of these very two? */
int pugd_graph_linked(const struct pugd_graph *graph, uint64_t a, uint64_t b);

/* All links among the ids of its person, in no order. returns how many there are; writes at most `max` of them. */
uint32_t pugd_graph_links(const struct pugd_graph *graph, uint64_t actor, struct pugd_graph_entry *links, uint32_t max);

/* Let every id of its person stand alone, without links; a user id stays one. No allocation. */
void pugd_graph_scatter(struct pugd_graph *graph, uint64_t actor);

/* Many entries of the link log at once. returns how many were applied: fewer than `count` where memory is short. */
size_t pugd_graph_link_many(struct pugd_graph *graph, const struct pugd_graph_entry *entries, size_t count);

/* Why a and b are one person: the orders of the links on the way from one to the other. returns how many, of which
 * orders[] gets at most `max`; -1 where they are not one. */
int64_t pugd_graph_explain(const struct pugd_graph *graph, uint64_t a, uint64_t b, uint64_t *orders, uint32_t max);

/* A batch of events. `packed` is a MessagePack array of 3 × count values: project, user id, anonymous id ('' for none).
 * actors[i] gets the user id's actor if there is one, else the anonymous id's; look[] gets, in order, the events that
 * the rules must look at: whose user id is not yet known as one, or whose two ids are not one person.
 * returns how many of those; -1 where `packed` is not of that form, or an event has neither id. */
int64_t pugd_graph_resolve_many(const struct pugd_graph *graph, const uint8_t *packed, size_t length, uint32_t count,
                                uint64_t *actors, uint32_t *look);

/* The representatives of a batch of ids' persons: of an id that is in no link, its own actor. `packed` is a MessagePack
 * array of 2 × count values: project, id. returns 0; -1 where `packed` is not of that form. */
int pugd_graph_persons_many(const struct pugd_graph *graph, const uint8_t *packed, size_t length, uint32_t count,
                            uint64_t *persons);

/* The same of actors, and their handles, 0 where there is none. */
void pugd_graph_find_many(const struct pugd_graph *graph, const uint64_t *actors, uint32_t count, uint64_t *persons,
                          uint32_t *handles);

/* A picture of the graph as it is now, while it goes on changing (saving.h): records of the ids in the order of their
 * handles (actor, person, next, size or proof, rank, order or extras), then of the extra links in the order in which they
 * came (two handles, order), little-endian. Equal link logs give equal bytes. Begun and ended by the thread that changes
 * the graph, read by another, which calls pugd_graph_save_next until that returns 0, or -1 where the picture was lost for
 * want of memory. One at a time. save_begin returns 0, or -1 where memory is short. room ≥ 8 KiB. */
int pugd_graph_save_begin(struct pugd_graph *graph);
int64_t pugd_graph_save_next(const struct pugd_graph *graph, uint8_t *out, size_t room);
void pugd_graph_save_end(struct pugd_graph *graph);

/* Fill an empty graph with the records of a picture. returns 0; -1 where memory is short; -2 where they cannot be one.
 * After either the graph may only be freed. */
int pugd_graph_load(struct pugd_graph *graph, const uint8_t *records, uint32_t count, const uint8_t *extras,
                    uint32_t extra_count);

struct pugd_graph_numbers pugd_graph_statistics(const struct pugd_graph *graph);

#endif

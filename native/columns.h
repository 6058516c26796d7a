/* Journal rows (MessagePack) into ClickHouse Native blocks, all tables in one pass.
 *
 *   records ──► row ──► kind ──► table ──► one growing buffer a column ──► pieces of a block
 *
 * A row is read whole into a small array of values first and only then appended, so a row that turns out wrong leaves no
 * trace in any column. It is reported with its position and passed over; a row whose end cannot be found costs the rest
 * of its record. A missing trailing field is the type's default, a field past the last one known is passed over.
 *
 * A block is cut before the row that would make it longer than `rows_max` rows or `bytes_max` journal bytes. A row that
 * would bring in month number `months_max + 1` (tables are partitioned by month, and one insert may touch only so many)
 * is put by; what was put by makes blocks of its own at the end of its span, so events of any times, in any order, make
 * few blocks: one for each months_max months that a span has.
 *
 * A Native block, as HTTP clients without client_protocol_version send it (no block info, no serialization byte):
 *
 *   columns, rows            varints
 *   for each column          name, type: varint length and bytes each; then its data:
 *     fixed width            rows values, little-endian
 *     String                 a row: varint length, bytes
 *     LowCardinality(String) u64 1 (keys travel with the block); u64 index width (0, 1, 2 for 8, 16, 32 bits) | 0x600 (own
 *                            keys, a new dictionary); u64 keys, each as a String; u64 rows, then their indices
 *     JSON                   u64 1 (as text), then as String; an empty text is {}
 *
 * Cost: about 0.3 µs a row of 30 columns. Memory: the blocks' own size, and as much again while a buffer grows.
 * Nothing is borrowed after pugd_columns_add returns.
 * Source: ClickHouse, "Native" format; src/DataTypes/Serializations/SerializationLowCardinality.cpp for the flags.
 */
#ifndef PUGD_COLUMNS_H
#define PUGD_COLUMNS_H

#include <stdint.h>
#include <stddef.h>

enum pugd_type {
    PUGD_UINT8 = 1,
    PUGD_UINT16,
    PUGD_UINT32,
    PUGD_UINT64,
    PUGD_INT64,
    PUGD_FLOAT64,
    PUGD_TIME, /* DateTime64(3): milliseconds, of the years ClickHouse can hold: 1900 to 2299 */
    PUGD_STRING,
    PUGD_LOW_CARDINALITY,
    PUGD_JSON,
};

/* Sources that are no row field. */
#define PUGD_SOURCE_POSITION (-1)
#define PUGD_SOURCE_COLLECTOR (-2)
#define PUGD_SOURCE_EPOCH (-3)

#define PUGD_FIELDS_MAX 64  /* that a table may name */
#define PUGD_ROWS_MAX (1u << 24) /* a block, whatever the limits say */
#define PUGD_MONTHS_MAX 100 /* ClickHouse's own default bound of partitions an insert */

enum pugd_fault_reason {
    PUGD_FAULT_DAMAGED = 1, /* not MessagePack: the rest of the record is lost with it */
    PUGD_FAULT_KIND = 2,    /* no table takes this kind of row */
    PUGD_FAULT_TYPE = 3,    /* a field is of another type */
    PUGD_FAULT_RANGE = 4,   /* a number that its column cannot hold */
};

struct pugd_column {
    const char *name;
    const char *type; /* as ClickHouse writes it */
    int32_t code;     /* enum pugd_type */
    int32_t source;   /* index of a row field (0 is the kind), or PUGD_SOURCE_… */
};

struct pugd_table {
    uint32_t kind; /* of the rows it takes: 0 to 127 */
    uint32_t count;
    const struct pugd_column *columns;
    int32_t month; /* index of the column whose month is the partition; -1: none */
    const uint64_t *skip;
    size_t skip_count; /* positions of rows to leave out, ascending */
};

struct pugd_limits {
    uint64_t from; /* rows at positions in [from, until) are taken */
    uint64_t until;
    uint64_t bytes_max; /* of journal a block; a single longer row is a block of its own */
    uint32_t rows_max;
    uint32_t months_max;
};

struct pugd_fault {
    uint64_t position;
    uint64_t length; /* of the bytes that are lost with it */
    uint32_t kind;   /* 0 where it was not read */
    int32_t reason;
    int32_t field; /* index of the field; -1: none in particular */
};

struct pugd_piece {
    const uint8_t *data;
    size_t length;
};

struct pugd_block {
    uint32_t table; /* index */
    uint32_t rows;
    uint64_t bytes; /* of the pieces together */
    const uint64_t *positions; /* of the rows, ascending */
    const struct pugd_piece *pieces;
    size_t piece_count;
};

struct pugd_columns;

/* returns NULL without memory, or where a table makes no sense (*why is then a text, else NULL). The column arrays, their
 * texts and the skip positions must stay until pugd_columns_finish has returned; all else is copied. */
struct pugd_columns *pugd_columns_open(const struct pugd_table *tables, uint32_t count, const uint8_t *collector,
                                       uint32_t collector_length, uint64_t epoch, const struct pugd_limits *limits,
                                       const char **why);
/* Whole records from `position` on; spans come in ascending order. returns 0; -1 without memory; -2 where the records
 * are not whole. After an error only close is allowed. */
int pugd_columns_add(struct pugd_columns *c, const uint8_t *data, size_t length, uint64_t position);
/* Ends the open blocks. returns 0, or -1 without memory. After it only the three below are allowed. */
int pugd_columns_finish(struct pugd_columns *c);
const struct pugd_block *pugd_columns_blocks(const struct pugd_columns *c, size_t *count);
const struct pugd_fault *pugd_columns_faults(const struct pugd_columns *c, size_t *count);
void pugd_columns_close(struct pugd_columns *c);

/* How long the row at data[0] is, in bytes; 0 where it is not a whole row. */
size_t pugd_row_length(const uint8_t *data, size_t length);

#endif

/* A journal record: one wake-up's rows, with what is needed to see that they are whole.
 *
 *   offset  size
 *        0     4  length of the payload in bytes, little-endian; 0 ends the written part of a preallocated file
 *        4     4  CRC-32C of: the record's position (8 bytes), then bytes 0-3, then bytes 8 to the end
 *        8     1  kind: 1 = rows
 *        9     3  zero
 *       12     4  how many rows the payload holds
 *       16     …  payload: MessagePack arrays, one a row, end to end
 *
 * All integers are little-endian. The position is in the checksum, so bytes of another place or of an older use of the
 * same blocks never pass. A record's position is that of its first header byte, counted from the collector's beginning;
 * a row's position is that of its own first byte, so a row at payload offset o lies at record position + 16 + o.
 */
#ifndef PUGD_RECORD_H
#define PUGD_RECORD_H

#include <stdint.h>
#include <stddef.h>

#define PUGD_RECORD_HEADER 16
#define PUGD_RECORD_ROWS 1
#define PUGD_RECORD_LENGTH_MAX (64u * 1024 * 1024) /* no record is longer; a longer length is damage */

enum pugd_record_status {
    PUGD_RECORD_WHOLE = 0,   /* a record that passes its checksum */
    PUGD_RECORD_END = 1,     /* nothing more was written here: the data end, or a zero length */
    PUGD_RECORD_TORN = 2,    /* the record reaches past the data's end */
    PUGD_RECORD_CORRUPT = 3, /* length out of bounds, unknown kind, or a checksum that differs */
};

struct pugd_record {
    const uint8_t *payload;
    uint32_t length; /* of the payload */
    uint32_t rows;
};

/* CRC-32C (Castagnoli), continued from `crc` (0 to begin). Some 20 bytes a nanosecond where the CPU has SSE4.2. */
uint32_t pugd_crc32c(uint32_t crc, const uint8_t *data, size_t length);

/* Write the header of a record that will stand at `position` before its payload: PUGD_RECORD_HEADER bytes to `out`.
 * `length` is from 1 to PUGD_RECORD_LENGTH_MAX. */
void pugd_record_head(uint8_t *out, const uint8_t *payload, uint32_t length, uint32_t rows, uint64_t position);

/* Look at the record at data[0]; `position` is its position. Reads no byte past `length`. */
enum pugd_record_status pugd_record_read(const uint8_t *data, size_t length, uint64_t position,
                                         struct pugd_record *out);

/* Walk whole records from data[0]. returns the number of bytes that hold whole records, one after another;
 * *rows gets the sum of their rows, *status why the walk ended (never WHOLE). */
size_t pugd_records_check(const uint8_t *data, size_t length, uint64_t position, uint64_t *rows, int *status);

/* Behind damage: where the next whole record begins. data[0] is at `position`.
 * returns its offset; `length` if there is none. A byte is summed only where the bytes before it could be a record's
 * header. Bytes made to look like headers of long records could make that quadratic: after PUGD_RECORD_PATIENCE times
 * the data's length, only records up to PUGD_RECORD_SHORT bytes are still looked for. */
#define PUGD_RECORD_PATIENCE 256
#define PUGD_RECORD_SHORT 4096
size_t pugd_record_find(const uint8_t *data, size_t length, uint64_t position);

/* Where the rows of one payload end: ends[i] gets the offset behind row i, for up to `room` rows.
 * returns how many rows there are; -1 where the payload is not MessagePack values end to end, or more than `room`. */
int64_t pugd_rows_split(const uint8_t *payload, size_t length, uint32_t *ends, size_t room);

#endif

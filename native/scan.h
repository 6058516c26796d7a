/* Is this JSON storable in ClickHouse? One pass over a whole text, before it is acked, so that nothing acked can be
 * refused by the store later. What passes is a JSON text by RFC 8259, and besides:
 *
 *   valid UTF-8            no overlong form, no surrogate, nothing above U+10FFFF (Unicode 16, table 3-7)
 *   no lone surrogate      \ud800 to \udbff only before \udc00 to \udfff, and these only after those
 *   finite numbers         every number rounds to a finite double: below 2^1024 - 2^970, decided exactly on the digits,
 *                          without strtod; integers may be as long as they like below that
 *   nesting                at most PUGD_SCAN_DEPTH_MAX objects and arrays inside one another
 *
 * Three things pass and are told: an object that names one key twice (after unescaping, so "a" and "\u0061" are one key),
 * a \u0000 anywhere, and so many keys or values that reading them one by one takes long. The first has no false negative: equal keys have equal hashes, and every object's hashes are
 * compared, the first 64 as they come (behind a 64-bit filter), larger objects once more when they close, in a table.
 * A false positive takes two keys of one object with the same 64-bit hash under a secret seed; it costs a re-encoding.
 *
 * cost    about half a nanosecond a byte of usual events; strings are passed over 16 bytes at a time. No recursion.
 *         Hashes of the keys of all open objects lie on the C stack up to 512 of them, then on the heap: 8 bytes a
 *         key, and 16 to 32 more for each of a large object's while it closes
 * state   none: any number of threads may scan at once
 */
#ifndef PUGD_SCAN_H
#define PUGD_SCAN_H

#include <stddef.h>
#include <stdint.h>

#define PUGD_SCAN_DEPTH_MAX 64

/* Why a text is refused. Python keys its messages on these numbers: they are kept. */
enum pugd_scan_code {
    PUGD_SCAN_STORABLE = 0,
    PUGD_SCAN_EMPTY = 1,        /* nothing but white space */
    PUGD_SCAN_ENDED = 2,        /* the text ends inside a value */
    PUGD_SCAN_UNEXPECTED = 3,   /* a byte that the grammar does not allow here */
    PUGD_SCAN_TRAILING = 4,     /* more text after the value */
    PUGD_SCAN_UTF8 = 5,
    PUGD_SCAN_CONTROL = 6,      /* a raw control character inside a string */
    PUGD_SCAN_ESCAPE = 7,       /* an escape that JSON does not have */
    PUGD_SCAN_SURROGATE = 8,    /* half of a surrogate pair */
    PUGD_SCAN_NUMBER = 9,       /* a number that JSON does not have, such as 1. or +1 */
    PUGD_SCAN_LEADING_ZERO = 10,
    PUGD_SCAN_NOT_FINITE = 11,  /* beyond a double, or NaN or Infinity */
    PUGD_SCAN_TOO_DEEP = 12,
    PUGD_SCAN_MARK = 13,        /* a byte order mark before the value */
    PUGD_SCAN_KEY = 14,         /* an object's key expected: a string in double quotes */
    PUGD_SCAN_MEMORY = 15,      /* no memory for the keys: nothing is known about the text */
};

#define PUGD_SCAN_DUPLICATE_KEYS 0x100u
#define PUGD_SCAN_NUL 0x200u
#define PUGD_SCAN_OBJECT 0x400u /* the value is an object */
#define PUGD_SCAN_MANY 0x800u   /* it holds more keys or more values than these */
#define PUGD_SCAN_MANY_KEYS 100000
#define PUGD_SCAN_MANY_VALUES 1000000

/* returns the code in bits 0 to 7, the flags above in bits 8 to 15, the byte offset of the fault from bit 16 on (the
 * text's length where it ended too early). Flags say nothing where the code is not 0. `seed` is secret and random. */
uint64_t pugd_scan(const uint8_t *data, size_t length, uint64_t seed);

#endif

/* The keyed hash that makes an actor of a distinct id: SipHash-2-4 (Aumasson and Bernstein 2012) under the installation's
 * key. Nobody without the key can choose where an id falls.
 */
#ifndef PUGD_SIPHASH_H
#define PUGD_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct pugd_key {
    uint64_t k0, k1;
};

/* The 16 key bytes as SipHash reads them. */
struct pugd_key pugd_key_read(const uint8_t bytes[16]);

/* SipHash-2-4 of data[0 … length). */
uint64_t pugd_siphash(const struct pugd_key *key, const uint8_t *data, size_t length);

/* The same of (project, 4 bytes little-endian ‖ text), without putting them together. About 20 ns for a UUID. */
uint64_t pugd_siphash_project(const struct pugd_key *key, uint32_t project, const uint8_t *text, size_t length);

/* Many texts' actors, eight at a time where the machine has AVX2: 6 to 7 ns a UUID. */
struct pugd_text {
    const uint8_t *text;
    uint32_t length;
    uint32_t project;
};
void pugd_siphash_many(const struct pugd_key *key, const struct pugd_text *texts, size_t count, uint64_t *actors);

#endif

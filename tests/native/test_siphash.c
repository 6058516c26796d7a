// sources: siphash.c
/* The hash against its published vectors; many at once against one at a time, texts of every length, read to the byte. */
#include "check.h"
#include "siphash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* SipHash-2-4 of 0, 1, 2, … of each length under the key 00 … 0f: the reference implementation's table. */
static const uint64_t vectors[64] = {
    0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d, 0xcf2794e0277187b7,
    0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137, 0x93f5f5799a932462, 0x9e0082df0ba9e4b0,
    0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7, 0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee,
    0xa129ca6149be45e5, 0x3f2acc7f57c29bdb, 0x699ae9f52cbe4794, 0x4bc1b3f0968dd39c, 0xbb6dc91da77961bd,
    0xbed65cf21aa2ee98, 0xd0f2cbb02e3b67c7, 0x93536795e3a33e88, 0xa80c038ccd5ccec8, 0xb8ad50c6f649af94,
    0xbce192de8a85b8ea, 0x17d835b85bbb15f3, 0x2f2e6163076bcfad, 0xde4daaaca71dc9a5, 0xa6a2506687956571,
    0xad87a3535c49ef28, 0x32d892fad841c342, 0x7127512f72f27cce, 0xa7f32346f95978e3, 0x12e0b01abb051238,
    0x15e034d40fa197ae, 0x314dffbe0815a3b4, 0x027990f029623981, 0xcadcd4e59ef40c4d, 0x9abfd8766a33735c,
    0x0e3ea96b5304a7d0, 0xad0c42d6fc585992, 0x187306c89bc215a9, 0xd4a60abcf3792b95, 0xf935451de4f21df2,
    0xa9538f0419755787, 0xdb9acddff56ca510, 0xd06c98cd5c0975eb, 0xe612a3cb9ecba951, 0xc766e62cfcadaf96,
    0xee64435a9752fe72, 0xa192d576b245165a, 0x0a8787bf8ecb74b2, 0x81b3e73d20b49b6f, 0x7fa8220ba3b2ecea,
    0x245731c13ca42499, 0xb78dbfaf3a8d83bd, 0xea1ad565322a1a0b, 0x60e61c23a3795013, 0x6606d7e446282b93,
    0x6ca4ecb15c5f91e1, 0x9f626da15c9625f3, 0xe51b38608ef25f57, 0x958a324ceb064572,
};

static int vectors_hold(void)
{
    uint8_t bytes[64], joined[64];
    for (int i = 0; i < 64; i++) bytes[i] = (uint8_t)i;
    struct pugd_key key = pugd_key_read(bytes);
    for (size_t length = 0; length < 64; length++) {
        uint8_t *exact = malloc(length ? length : 1); /* so that a read past the end is seen */
        memcpy(exact, bytes, length);
        CHECK(pugd_siphash(&key, exact, length) == vectors[length]);
        if (length <= 60) {
            const uint8_t project[4] = {0x78, 0x56, 0x34, 0x12};
            memcpy(joined, project, 4);
            memcpy(joined + 4, exact, length);
            CHECK(pugd_siphash_project(&key, 0x12345678, exact, length) == pugd_siphash(&key, joined, length + 4));
        }
        free(exact);
    }
    return 0;
}

/* Batches of every size, with lengths that mix, or are all alike but for their last word. */
static int many(void)
{
    enum { TEXTS = 200 };
    struct pugd_text texts[TEXTS];
    uint64_t actors[TEXTS], state = 1;
    uint8_t key_bytes[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
    struct pugd_key key = pugd_key_read(key_bytes);
    for (size_t count = 0; count <= TEXTS; count += count < 40 ? 1 : 40) {
        for (int shape = 0; shape < 4; shape++) {
            for (size_t i = 0; i < count; i++) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                uint32_t any = (uint32_t)(state >> 33);
                uint32_t length = shape == 0 ? any % 120 : shape == 1 ? 36 : shape == 2 ? 36 + any % 8 : 1 + any % 12;
                uint8_t *text = malloc(length ? length : 1); /* so that a read past the end, or before it, is seen */
                for (uint32_t k = 0; k < length; k++) text[k] = (uint8_t)(any >> k % 24) ^ (uint8_t)(k * 7);
                texts[i] = (struct pugd_text){text, length, any % 3 ? any : 1};
            }
            pugd_siphash_many(&key, texts, count, actors);
            for (size_t i = 0; i < count; i++) {
                CHECK(actors[i] == pugd_siphash_project(&key, texts[i].project, texts[i].text, texts[i].length));
                free((void *)texts[i].text);
            }
        }
    }
    return 0;
}

int main(void) { return vectors_hold() || many(); }

#include "sha256.h"

#include <stdio.h>
#include <string.h>

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static void add_block(uint32_t state[8], const unsigned char *block);

static uint32_t rotate(uint32_t value, unsigned count) { return value >> count | value << (32 - count); }

void sha256_begin(struct sha256 *hash) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, start, sizeof start);
    hash->length = 0;
}

void sha256_add(struct sha256 *hash, const void *bytes, size_t count) {
    const unsigned char *rest = bytes;
    size_t pending = hash->length % 64;
    hash->length += count;
    if (pending > 0) {
        size_t wanted = 64 - pending;
        if (count < wanted) {
            memcpy(hash->pending + pending, rest, count);
            return;
        }
        memcpy(hash->pending + pending, rest, wanted);
        add_block(hash->state, hash->pending);
        rest += wanted;
        count -= wanted;
    }
    for (; count >= 64; rest += 64, count -= 64) {
        add_block(hash->state, rest);
    }
    if (count > 0) {
        memcpy(hash->pending, rest, count);
    }
}

void sha256_end(struct sha256 *hash, char hexadecimal[65]) {
    uint64_t bits = hash->length * 8;
    static const unsigned char padding[64] = {0x80};
    size_t pending = hash->length % 64;
    sha256_add(hash, padding, pending < 56 ? 56 - pending : 120 - pending);
    unsigned char size[8];
    for (unsigned index = 0; index < 8; index++) {
        size[index] = (unsigned char)(bits >> (56 - 8 * index));
    }
    sha256_add(hash, size, sizeof size);
    for (unsigned index = 0; index < 8; index++) {
        (void)snprintf(hexadecimal + 8 * index, 9, "%08x", (unsigned)hash->state[index]);
    }
}

static void add_block(uint32_t state[8], const unsigned char *block) {
    uint32_t word[64];
    for (unsigned index = 0; index < 16; index++) {
        const unsigned char *bytes = block + 4 * index;
        word[index] = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
    }
    for (unsigned index = 16; index < 64; index++) {
        uint32_t far = word[index - 15], near = word[index - 2];
        uint32_t s0 = rotate(far, 7) ^ rotate(far, 18) ^ far >> 3;
        uint32_t s1 = rotate(near, 17) ^ rotate(near, 19) ^ near >> 10;
        word[index] = word[index - 16] + s0 + word[index - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (unsigned index = 0; index < 64; index++) {
        uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        uint32_t first = h + s1 + ((e & f) ^ (~e & g)) + ROUND[index] + word[index];
        uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        uint32_t second = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

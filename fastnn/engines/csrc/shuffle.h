/* Random orders: the numbers below n in the order of random keys, as fastnn/random.py defines them.

   The low bits of a key are its number, so all keys differ and every way of sorting gives the same
   order. They are sorted by their highest bits, about as many as n has, one digit after another
   from the lowest; insertion then exchanges the few neighbours that agree in those bits. */

enum {
    DIGIT_BITS = 11, /* of the longest digit: counters stay in L1 */
    FEW_KEYS = 24,   /* insertion alone sorts so many */
    DRAWS = 4,       /* vectors of blocks that are drawn side by side */
    DRAWN = 2 * DRAWS * LANES_d,
};

/* The products of the low halves of the lanes. */
INLINE bits_d wide_product(bits_d a, uint64_t b)
{
#if defined(LEVEL_AVX512)
    return (bits_d)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64((int64_t)b));
#elif defined(LEVEL_AVX2)
    return (bits_d)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x((int64_t)b));
#elif defined(__x86_64__)
    return (bits_d)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x((int64_t)b));
#else
    return (a & 0xFFFFFFFF) * b;
#endif
}

/* DRAWN keys of 64 random bits from Philox-4x32-10: keys[v][0][l] and keys[v][1][l] are those of
   block first + v*LANES_d + l. Only the low halves of the lanes count until the end. */
static inline void draw_keys(uint64_t *keys, uint64_t first, uint64_t seed, uint64_t stream,
                             uint64_t index)
{
    const uint64_t multiplier[2] = {0xD2511F53, 0xCD9E8D57}, step[2] = {0x9E3779B9, 0xBB67AE85};
    bits_d c0[DRAWS], c1[DRAWS], c2[DRAWS], c3[DRAWS];
    uint64_t k0 = seed, k1 = seed >> 32;
    bits_d lanes;
    for (int l = 0; l < LANES_d; l++) lanes[l] = first + (uint64_t)l;
#pragma GCC unroll 4
    for (int v = 0; v < DRAWS; v++) {
        /* The first round. The number of a block may have more than 32 bits. */
        const bits_d p0 = (lanes + (uint64_t)(v * LANES_d)) * multiplier[0];
        const uint64_t p1 = multiplier[1] * (index >> 32);
        c0[v] = (bits_d){} + ((p1 >> 32) ^ index ^ k0);
        c1[v] = (bits_d){} + p1;
        c2[v] = (p0 >> 32) ^ stream ^ k1;
        c3[v] = p0;
    }
    for (int round = 1; round < 10; round++) {
        k0 += step[0], k1 += step[1];
#pragma GCC unroll 4
        for (int v = 0; v < DRAWS; v++) {
            const bits_d p0 = wide_product(c0[v], multiplier[0]);
            const bits_d p1 = wide_product(c2[v], multiplier[1]);
            c0[v] = (p1 >> 32) ^ (c1[v] ^ k0);
            c2[v] = (p0 >> 32) ^ (c3[v] ^ k1);
            c1[v] = p1, c3[v] = p0;
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < DRAWS; v++) {
        const bits_d drawn[2] = {c0[v] << 32 | (c1[v] & 0xFFFFFFFF),
                                 c2[v] << 32 | (c3[v] & 0xFFFFFFFF)};
        memcpy(keys + 2 * v * LANES_d, drawn, sizeof drawn);
    }
}

/* The number of the key that draw_keys leaves in lane l of vector v. */
#define NUMBER(v, l) ((v) / 2 * 2 * LANES_d + (v) % 2 + 2 * (l))

/* keys (n,): random in the high bits, their numbers in the bits of `low`; in any order. */
static void number_keys(uint64_t *keys, int64_t n, uint64_t low, uint64_t seed, uint64_t stream,
                        uint64_t index)
{
    uint64_t drawn[DRAWN];
    for (int64_t i = 0; i < n; i += DRAWN) {
        draw_keys(drawn, (uint64_t)i / 2, seed, stream, index);
        for (int v = 0; v < DRAWN / LANES_d; v++)
            for (int l = 0; l < LANES_d; l++) {
                uint64_t *key = drawn + v * LANES_d + l;
                *key = (*key & ~low) | (uint64_t)(i + NUMBER(v, l));
            }
        if (n - i >= DRAWN) {
            memcpy(keys, drawn, sizeof drawn);
            keys += DRAWN;
            continue;
        }
        for (int v = 0; v < DRAWN / LANES_d; v++)
            for (int l = 0; l < LANES_d; l++)
                if (i + NUMBER(v, l) < n) *keys++ = drawn[v * LANES_d + l];
    }
}

/* place[d]: that of the first of keys (n,) with digit d. */
static inline void count_digits(int64_t *place, const uint64_t *keys, int64_t n, int shift,
                                uint64_t digit)
{
    memset(place, 0, (digit + 1) * sizeof *place);
    for (int64_t i = 0; i < n; i++) place[keys[i] >> shift & digit]++;
    int64_t sum = 0;
    for (uint64_t d = 0; d <= digit; d++) {
        const int64_t count = place[d];
        place[d] = sum;
        sum += count;
    }
}

static inline void insert_keys(uint64_t *keys, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        const uint64_t key = keys[i];
        int64_t at = i;
        for (; at > 0 && keys[at - 1] > key; at--) keys[at] = keys[at - 1];
        keys[at] = key;
    }
}

/* orders (rows, n): row r is the order of (seed, stream, first + r).

   Destroys keys (n + 1,) and place (1 << DIGIT_BITS,). */
static int64_t shuffle(uint64_t *orders, uint64_t *keys, int64_t *place, int64_t seed,
                       int64_t stream, int64_t first, int64_t rows, int64_t n)
{
    int n_bits = 0;
    while ((n - 1) >> n_bits) n_bits++;
    const int passes = n <= FEW_KEYS ? 0 : (n_bits + DIGIT_BITS - 1) / DIGIT_BITS;
    const int width = passes ? (n_bits + passes - 1) / passes : 0;
    const uint64_t low = ((uint64_t)1 << n_bits) - 1, digit = ((uint64_t)1 << width) - 1;
    for (int64_t row = 0; row < rows; row++, orders += n) {
        uint64_t *in = keys, *out = orders;
        number_keys(in, n, low, (uint64_t)seed, (uint64_t)stream, (uint64_t)(first + row));
        for (int pass = 0; pass < passes; pass++) {
            const int shift = 64 - width * (passes - pass);
            count_digits(place, in, n, shift, digit);
            for (int64_t i = 0; i < n; i++) out[place[in[i] >> shift & digit]++] = in[i];
            uint64_t *moved = out;
            out = in, in = moved;
        }
        insert_keys(in, n);
        for (int64_t i = 0; i < n; i++) orders[i] = in[i] & low;
    }
    return STATUS_OK;
}

#undef NUMBER

#define SHUFFLE_SYMBOLS SYMBOL(shuffle)

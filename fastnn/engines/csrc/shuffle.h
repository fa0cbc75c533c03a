/* Random orders: the numbers below n in the order of random keys, as fastnn/random.py defines them.

   The low bits of a key are its number, so all keys differ and every way of sorting gives the same
   order. They are sorted by their highest bits, about as many as n has, one digit after another
   from the lowest; insertion then exchanges the few neighbours that agree in those bits. */

enum {
    DIGIT_BITS = 11,  /* of the longest digit: counters stay in L1 */
    FEW_KEYS = 24,    /* insertion alone sorts so many */
    KEYS = 2 * DRAWN, /* that are drawn at a time */
};

/* Where a block lies that draw_blocks leaves in lane l of vector v, from the first one on. */
#define BLOCK(v, l) ((v) / 2 * PAIR + (v) % 2 + 2 * (l))

/* keys (n,): random in the high bits, their numbers in the bits of `low`; in any order. */
static void number_keys(uint64_t *keys, int64_t n, uint64_t low, const struct stream *from)
{
    uint64_t drawn[DRAWS][2][LANES_d];
    for (int64_t i = 0; i < n; i += KEYS) {
        bits_d word[4][DRAWS];
        draw_blocks(word, (uint64_t)i / 2, from);
        for (int v = 0; v < DRAWS; v++)
            for (int k = 0; k < 2; k++) {
                const bits_d key = word[2 * k][v] << 32 | (word[2 * k + 1][v] & 0xFFFFFFFF);
                memcpy(drawn[v][k], &key, sizeof key);
                for (int l = 0; l < LANES_d; l++)
                    drawn[v][k][l] = (drawn[v][k][l] & ~low) | (uint64_t)(i + 2 * BLOCK(v, l) + k);
            }
        if (n - i >= KEYS) {
            memcpy(keys, drawn, sizeof drawn);
            keys += KEYS;
            continue;
        }
        for (int v = 0; v < DRAWS; v++)
            for (int l = 0; l < LANES_d; l++)
                for (int k = 0; k < 2; k++)
                    if (i + 2 * BLOCK(v, l) + k < n) *keys++ = drawn[v][k][l];
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
        const struct stream from = stream_of((uint64_t)seed, (uint64_t)stream,
                                             (uint64_t)(first + row));
        number_keys(in, n, low, &from);
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

#undef BLOCK

#define SHUFFLE_SYMBOLS SYMBOL(shuffle)

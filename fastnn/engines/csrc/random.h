/* Random words and normals of the elements of a batch, as fastnn/random.py defines them.

   64 elements share 16 blocks of Philox: block l has the words of elements l, 16 + l, 32 + l and
   48 + l, so vectors of blocks give vectors of elements without a shuffle. Vectors of blocks come
   in pairs, the even blocks in one and the odd ones in the other, because a lane of 64 bits holds
   one word. */

enum {
    BLOCKS = 16,            /* of a group of elements */
    GROUP = 4 * BLOCKS,     /* elements of a group */
    TILE = 16 * GROUP,      /* elements that are drawn at a time: their words stay in L1 */
    PAIR = 2 * LANES_d,     /* blocks of a pair of vectors */
    DRAWS = 4,              /* vectors that are drawn side by side */
    DRAWN = DRAWS * LANES_d /* their blocks */
};

/* What the blocks of Philox depend on, besides their numbers. */
struct stream {
    uint64_t index, stream;
    uint64_t keys[10][2]; /* of each round; only the low halves count */
};

static inline struct stream stream_of(uint64_t seed, uint64_t stream, uint64_t index)
{
    struct stream from = {index, stream, {{seed, seed >> 32}}};
    for (int round = 1; round < 10; round++) {
        from.keys[round][0] = from.keys[round - 1][0] + 0x9E3779B9;
        from.keys[round][1] = from.keys[round - 1][1] + 0xBB67AE85;
    }
    return from;
}

/* What the numbers of the current operation and step depend on. */
static inline struct stream stream_of_step(const struct context *ctx)
{
    return stream_of((uint64_t)ctx->seed, (uint64_t)ctx->op->stream, (uint64_t)ctx->step);
}

/* The groups of so many elements from the first one of a group on. */
INLINE int64_t groups_of(int64_t elements) { return (elements + GROUP - 1) / GROUP; }

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

/* DRAWN blocks of Philox-4x32-10: the low half of word[w][v][l] is word w of block
   first + v / 2 * PAIR + v % 2 + 2 * l. */
INLINE void draw_blocks(bits_d word[4][DRAWS], uint64_t first, const struct stream *from)
{
    const uint64_t multiplier[2] = {0xD2511F53, 0xCD9E8D57};
    /* The first round is special: the number of a block may have more than 32 bits, and its
       products follow from that of the first block by addition; those of the index are the same in
       all lanes. */
    const uint64_t product = first * multiplier[0], high = multiplier[1] * (from->index >> 32);
    bits_d c0[DRAWS], c1[DRAWS], c2[DRAWS], c3[DRAWS], lanes;
    for (int l = 0; l < LANES_d; l++) lanes[l] = 2 * (uint64_t)l * multiplier[0];
#pragma GCC unroll 4
    for (int v = 0; v < DRAWS; v++) {
        const bits_d p0 = lanes + (product + (uint64_t)(v / 2 * PAIR + v % 2) * multiplier[0]);
        c0[v] = (bits_d){} + ((high >> 32) ^ from->index ^ from->keys[0][0]);
        c1[v] = (bits_d){} + high;
        c2[v] = (p0 >> 32) ^ (from->stream ^ from->keys[0][1]);
        c3[v] = p0;
    }
#pragma GCC unroll 9
    for (int round = 1; round < 10; round++) {
#pragma GCC unroll 4
        for (int v = 0; v < DRAWS; v++) {
            const bits_d p0 = wide_product(c0[v], multiplier[0]);
            const bits_d p1 = wide_product(c2[v], multiplier[1]);
            c0[v] = (p1 >> 32) ^ (c1[v] ^ from->keys[round][0]);
            c2[v] = (p0 >> 32) ^ (c3[v] ^ from->keys[round][1]);
            c1[v] = p1, c3[v] = p0;
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < DRAWS; v++)
        word[0][v] = c0[v], word[1][v] = c1[v], word[2][v] = c2[v], word[3][v] = c3[v];
}

/* words (groups * GROUP,): those of the groups of elements first, first + 1, ...

   Whole calls of draw_blocks: one more group may be written, but no more than TILE words. */
static void draw_words(uint32_t *words, int64_t first, int64_t groups, const struct stream *from)
{
    for (int64_t at = 0; at < groups * BLOCKS; at += DRAWN) {
        bits_d word[4][DRAWS];
        draw_blocks(word, (uint64_t)(first * BLOCKS + at), from);
        for (int v = 0; v < DRAWS; v += 2) {
            const int64_t block = at + v / 2 * PAIR;
            uint32_t *place = words + block / BLOCKS * GROUP + block % BLOCKS;
            for (int w = 0; w < 4; w++) {
                const bits_d pair = word[w][v + 1] << 32 | (word[w][v] & 0xFFFFFFFF);
                memcpy(place + w * BLOCKS, &pair, sizeof pair);
            }
        }
    }
}

/* Words plus 1/2, as doubles. */
INLINE vec_d centre_of(bits_d word)
{
    return (vec_d)(word | 0x4330000000000000) - set_d(0x1p52 - 0.5);
}

INLINE vec_d unfused_polynomial(const double *c, const int n, vec_d x)
{
    vec_d value = set_d(c[0]);
#pragma GCC unroll 12
    for (int k = 1; k < n; k++) value = value * x + set_d(c[k]);
    return value;
}

/* sqrt(-2 log x) for x in (0, 1), with the logarithm of random.py: 2 artanh((f-1)/(f+1)) + n ln 2
   for x = 2^n f. */
INLINE vec_d radius_of(vec_d x)
{
    static const double c[] = {
        0.08695652173913043, 0.09523809523809523, 0.10526315789473684, 0.11764705882352941,
        0.13333333333333333, 0.15384615384615385, 0.18181818181818182, 0.2222222222222222,
        0.2857142857142857, 0.4, 0.6666666666666666, 2.0,
    };
    const vec_d one = set_d(1);
    const vec_d exponent = (vec_d)((bits_d)x >> 52 | 0x4330000000000000) - set_d(0x1p52 + 1022);
    const vec_d fraction = (vec_d)(((bits_d)x & 0xFFFFFFFFFFFFF) | 0x3FE0000000000000);
    const mask_d small = less_d(fraction, set_d(0.7071067811865476)); /* sqrt(1/2) */
    const vec_d f = select_d(small, fraction + fraction, fraction);
    const vec_d n = select_d(small, exponent - one, exponent);
    const vec_d s = (f - one) / (f + one);
    const vec_d log = s * unfused_polynomial(c, 12, s * s) + n * set_d(0.6931471805599453);
    return sqrt_d(set_d(-2) * log);
}

/* The cosine and the sine of some turns, of which `quarter`, 0 to 4, is the nearest number of
   quarters: reduced to [-1/8, 1/8] turns. */
INLINE void circle_of_turns(vec_d turns, bits_d quarter, vec_d *cosine, vec_d *sine)
{
    static const double sines[] = {
        2.8114572543455206e-15, -7.647163731819816e-13, 1.6059043836821613e-10,
        -2.505210838544172e-08, 2.7557319223985893e-06, -0.0001984126984126984,
        0.008333333333333333, -0.16666666666666666, 1.0,
    };
    static const double cosines[] = {
        -1.5619206968586225e-16, 4.779477332387385e-14, -1.1470745597729725e-11,
        2.08767569878681e-09, -2.755731922398589e-07, 2.48015873015873e-05,
        -0.001388888888888889, 0.041666666666666664, -0.5, 1.0,
    };
    const vec_d quarters = (vec_d)(quarter | 0x4330000000000000) - set_d(0x1p52);
    const vec_d x = (turns - quarters * set_d(0.25)) * set_d(6.283185307179586);
    const vec_d z = x * x;
    const bits_d s = (bits_d)(x * unfused_polynomial(sines, 9, z));
    const bits_d c = (bits_d)unfused_polynomial(cosines, 10, z);
    const bits_d swapped = -(quarter & 1);
    *cosine = (vec_d)(((s & swapped) | (c & ~swapped)) ^ ((quarter + 1) >> 1 << 63));
    *sine = (vec_d)(((c & swapped) | (s & ~swapped)) ^ (quarter >> 1 << 63));
}

/* The cosine and the sine of (word + 1/2) 2^-32 turns. */
INLINE void circle_of(bits_d word, vec_d *cosine, vec_d *sine)
{
    circle_of_turns(centre_of(word) * set_d(0x1p-32), (word + (1 << 29)) >> 30, cosine, sine);
}

/* normals (groups * GROUP,): those that words (groups * GROUP,) give, two from two words of a
   block (G. E. P. Box and M. E. Muller, 1958). */
static void to_normals(double *normals, const uint32_t *words, int64_t groups)
{
    typedef uint32_t half_words __attribute__((vector_size(VECTOR_BYTES / 2)));
    for (const uint32_t *end = words + groups * GROUP; words < end; words += 2 * BLOCKS) {
        for (int l = 0; l < BLOCKS; l += LANES_d) {
            half_words first, second;
            memcpy(&first, words + l, sizeof first);
            memcpy(&second, words + BLOCKS + l, sizeof second);
            vec_d cosine, sine;
            circle_of(__builtin_convertvector(second, bits_d), &cosine, &sine);
            const vec_d u = centre_of(__builtin_convertvector(first, bits_d)) * set_d(0x1p-32);
            const vec_d radius = radius_of(u);
            store_d(normals + l, radius * cosine);
            store_d(normals + BLOCKS + l, radius * sine);
        }
        normals += 2 * BLOCKS;
    }
}

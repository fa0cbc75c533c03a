/* Standard normals for initial weights, as fastnn/random.py defines them. */

enum { NORMALS = 2 * DRAWN /* that are drawn at a time */ };

/* Numbers of at most 53 bits as doubles; both halves and their sum are exact. */
INLINE vec_d of_53_bits(bits_d b)
{
    const vec_d high = (vec_d)(b >> 32 | 0x4330000000000000) - set_d(0x1p52);
    const vec_d low = (vec_d)((b & 0xFFFFFFFF) | 0x4330000000000000) - set_d(0x1p52);
    return high * set_d(0x1p32) + low;
}

/* Uniform numbers from 53 bits of two words. */
INLINE vec_d uniform_of(bits_d high, bits_d low)
{
    const bits_d bits = (high & 0xFFFFFFFF) >> 6 << 27 | (low & 0xFFFFFFFF) >> 5;
    return (of_53_bits(bits) + set_d(0.5)) * set_d(0x1p-53);
}

/* 1 where x is at least so large, else 0. */
INLINE vec_d reaches(vec_d x, double least)
{
    return select_d(less_d(x, set_d(least)), set_d(0), set_d(1));
}

/* normal (2, lanes): radius times cosine and sine of a number of turns, for two uniform numbers. */
INLINE void box_muller(vec_d normal[2], vec_d u, vec_d turns)
{
    const vec_d nearest = set_d(4) * turns + set_d(0.5), radius = radius_of(u);
    const vec_d quarters =
        (reaches(nearest, 1) + reaches(nearest, 2)) + (reaches(nearest, 3) + reaches(nearest, 4));
    vec_d cosine, sine;
    circle_of_turns(turns, (bits_d)(quarters + set_d(0x1p52)) & 7, &cosine, &sine);
    normal[0] = radius * cosine;
    normal[1] = radius * sine;
}

/* Where a block lies that draw_blocks leaves in lane l of vector v, from the first one on. */
#define BLOCK(v, l) ((v) / 2 * PAIR + (v) % 2 + 2 * (l))

/* out (n,): the normals of (seed, stream, index); two come from the four words of a block. */
static int64_t normals(double *out, int64_t seed, int64_t stream, int64_t index, int64_t n)
{
    const struct stream from = stream_of((uint64_t)seed, (uint64_t)stream, (uint64_t)index);
    for (int64_t i = 0; i < n; i += NORMALS) {
        bits_d word[4][DRAWS];
        double drawn[NORMALS];
        draw_blocks(word, (uint64_t)i / 2, &from);
        for (int v = 0; v < DRAWS; v++) {
            vec_d normal[2];
            box_muller(normal, uniform_of(word[0][v], word[1][v]),
                       uniform_of(word[2][v], word[3][v]));
            for (int l = 0; l < LANES_d; l++)
                for (int k = 0; k < 2; k++) drawn[2 * BLOCK(v, l) + k] = normal[k][l];
        }
        memcpy(out + i, drawn, (size_t)smaller_of(n - i, NORMALS) * sizeof *drawn);
    }
    return STATUS_OK;
}

#undef BLOCK

#define NORMALS_SYMBOLS SYMBOL(normals)

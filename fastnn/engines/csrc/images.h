/* Images in the rows of a batch: moved, smoothed and cut out for augmentation.

   An image is (height, width, channels), channels next to each other. */

enum { SPAN = 64 /* columns whose positions are computed at a time */ };

/* padded (height + 3, width + 3, channels): the image with a border, of `fill` or of its edges. */
static void pad_image(real *padded, const real *image, int64_t height, int64_t width,
                      int64_t channels, bool edges, real fill)
{
    const int64_t row = width * channels, stride = (width + 3) * channels;
    for (int64_t r = 0; r < height + 3; r++) {
        real *out = padded + r * stride;
        const int64_t above = r < 1 ? 0 : r - 1, from = above < height ? above : height - 1;
        if (!edges && (r < 1 || r > height)) {
            for (int64_t i = 0; i < stride; i++) out[i] = fill;
            continue;
        }
        const real *in = image + from * row;
        copy_to(out + channels, in, row);
        for (int64_t k = 0; k < channels; k++) {
            out[k] = edges ? in[k] : fill;
            const real last = edges ? in[row - channels + k] : fill;
            out[channels + row + k] = last;
            out[2 * channels + row + k] = last;
        }
    }
}

/* What a row of pixels of an image is interpolated from. */
struct positions {
    int32_t place[SPAN];
    real down[SPAN], right[SPAN];
};

/* Positions of n pixels of a row from `column` on, in the padded image: base + step * column, and
   the displacements; limits are the least and the largest one, downwards and to the right. */
INLINE void find_positions(struct positions *s, const real base[2], const real step[2],
                           const real *dy, const real *dx, const real *limits, int64_t column,
                           int64_t n, int32_t stride, int32_t channels)
{
    const real y0 = base[0], x0 = base[1], ys = step[0], xs = step[1];
    const real top = limits[0], bottom = limits[1], left = limits[2], right = limits[3];
    const int32_t first = (int32_t)column;
    for (int32_t c = 0; c < (int32_t)n; c++) {
        const real at = (real)(first + c);
        real y = y0 + ys * at, x = x0 + xs * at;
        y = y + (dy ? dy[c] : 0), x = x + (dy ? dx[c] : 0); /* also where it is 0: -0 becomes 0 */
        y = y < top ? top : y;
        y = y > bottom ? bottom : y;
        x = x < left ? left : x;
        x = x > right ? right : x;
        const int32_t i = (int32_t)y, j = (int32_t)x;
        s->down[c] = y - (real)i;
        s->right[c] = x - (real)j;
        s->place[c] = i * stride + j * channels;
    }
}

/* out (n, channels): bilinear interpolation between four pixels each. */
INLINE void interpolate(real *out, const struct positions *s, const real *padded, int64_t n,
                        int64_t stride, int64_t channels)
{
    for (int64_t c = 0; c < n; c++) {
        const real *p = padded + s->place[c];
        for (int64_t k = 0; k < channels; k++) {
            const real a = p[k], b = p[channels + k];
            const real d = p[stride + k], e = p[stride + channels + k];
            const real upper = a + s->right[c] * (b - a), lower = d + s->right[c] * (e - d);
            out[c * channels + k] = upper + s->down[c] * (lower - upper);
        }
    }
}

/* out (n, height, width, channels): pixel (r, c) of image k is that of images[k] at the position

       maps[k] = (y/r, y/c, y, x/r, x/c, x) gives, + fields[k] (2, height, width) if there are any,

   counted in the padded image, within limits = (least y, largest y, least x, largest x, fill).
   sizes = (n, height, width, channels, edges, has fields). out may be images. Destroys padded
   (height + 3, width + 3, channels). */
static int64_t warp(real *out, const real *images, const real *maps, const real *fields,
                    const real *limits, real *padded, const int64_t *sizes)
{
    const int64_t height = sizes[1], width = sizes[2], channels = sizes[3];
    const int64_t pixels = height * width, stride = (width + 3) * channels;
    struct positions found;
    for (int64_t k = 0; k < sizes[0]; k++, maps += 6) {
        pad_image(padded, images + k * pixels * channels, height, width, channels, sizes[4],
                  limits[4]);
        const real step[2] = {maps[1], maps[4]};
        for (int64_t r = 0; r < height; r++) {
            const real base[2] = {maps[0] * (real)r + maps[2], maps[3] * (real)r + maps[5]};
            for (int64_t c = 0; c < width; c += SPAN) {
                const int64_t n = smaller_of(SPAN, width - c);
                const real *dy = sizes[5] ? fields + (2 * k * height + r) * width + c : NULL;
                real *to = out + ((k * height + r) * width + c) * channels;
                if (dy)
                    find_positions(&found, base, step, dy, dy + pixels, limits, c, n,
                                   (int32_t)stride, (int32_t)channels);
                else
                    find_positions(&found, base, step, NULL, NULL, limits, c, n, (int32_t)stride,
                                   (int32_t)channels);
                if (channels == 1)
                    interpolate(to, &found, padded, n, stride, 1);
                else
                    interpolate(to, &found, padded, n, stride, channels);
            }
        }
    }
    return STATUS_OK;
}

/* total += weight values, for `count` elements. */
INLINE void add_multiple(real *total, const real *values, real weight, int64_t count)
{
    for (int64_t i = 0; i < count; i++) total[i] = total[i] + weight * values[i];
}

INLINE void set_zeros(real *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++) out[i] = 0;
}

/* fields (n, height, width): each smoothed by weights (2 reach + 1), down and then to the right,
   with zeros around it. sizes = (n, height, width, reach).

   The rows lie one after another with `reach` zeros before and after each, so that a weight is that
   of all of them in one loop. Destroys work (2 height (width + reach) + reach). */
static int64_t smooth(real *fields, const real *weights, real *work, const int64_t *sizes)
{
    const int64_t height = sizes[1], width = sizes[2], reach = sizes[3], stride = width + reach;
    const int64_t size = height * stride;
    real *padded = work, *rows = work + reach, *total = rows + size;
    for (int64_t k = 0; k < sizes[0]; k++) {
        real *field = fields + k * height * width;
        set_zeros(padded, reach + size);
        set_zeros(total, size);
        for (int64_t r = 0; r < height; r++) copy_to(rows + r * stride, field + r * width, width);
        for (int64_t t = 0; t <= 2 * reach; t++) {
            const int64_t down = t - reach, begin = larger_of(0, -down);
            const int64_t end = smaller_of(height, height - down);
            if (begin < end)
                add_multiple(total + begin * stride, rows + (begin + down) * stride, weights[t],
                             (end - begin) * stride);
        }
        copy_to(rows, total, size);
        set_zeros(total, size);
        for (int64_t t = 0; t <= 2 * reach; t++)
            add_multiple(total, padded + t, weights[t], size - reach);
        for (int64_t r = 0; r < height; r++) copy_to(field + r * width, total + r * stride, width);
    }
    return STATUS_OK;
}

/* images (n, height, width, channels): fill[0] in the rows top, ..., bottom - 1 and the columns
   left, ..., right - 1 of boxes (n, 4) = (top, bottom, left, right).
   sizes = (n, height, width, channels). */
static int64_t cut(real *images, const int64_t *boxes, const real *fill, const int64_t *sizes)
{
    const int64_t row = sizes[2] * sizes[3];
    for (int64_t k = 0; k < sizes[0]; k++, boxes += 4)
        for (int64_t r = boxes[0]; r < boxes[1]; r++) {
            real *out = images + (k * sizes[1] + r) * row;
            for (int64_t i = boxes[2] * sizes[3]; i < boxes[3] * sizes[3]; i++) out[i] = fill[0];
        }
    return STATUS_OK;
}

#define IMAGES_SYMBOLS                                                                            \
    SYMBOL(warp)                                                                                  \
    SYMBOL(smooth)                                                                                \
    SYMBOL(cut)

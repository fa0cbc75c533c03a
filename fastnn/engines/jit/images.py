"""Images in the rows of a batch: moved, smoothed and cut out for augmentation.

An image is (height, width, channels), channels next to each other.
"""

from __future__ import annotations

import numpy as np

from .kernels import on_arrays, subroutine
from .memory import like

_REAL, _INTEGER = "real", "integer"


@subroutine
def pad_image(padded, image, height, width, channels, edges, fill):
    """padded (height + 3, width + 3, channels): the image with a border.

    The border is `fill`, or that of the image's edges.
    """
    row, stride = width * channels, (width + 3) * channels
    for r in range(height + 3):
        out = padded + r * stride
        if edges == 0 and (r < 1 or r > height):
            for i in range(stride):
                out[i] = fill
            continue
        source = image + min(max(r - 1, 0), height - 1) * row
        for i in range(row):
            out[channels + i] = source[i]
        for k in range(channels):
            first, last = fill, fill
            if edges != 0:
                first, last = source[k], source[row - channels + k]
            out[k] = first
            out[channels + row + k] = last
            out[2 * channels + row + k] = last


@subroutine
def warp_row(out, padded, place, dy, dx, limits, width, channels):
    """out (width, channels): a row of pixels by bilinear interpolation.

    place = (y, y/c, x, x/c), in the padded image; dy and dx (width,) are added to it.
    """
    y0, ys, x0, xs = place
    top, bottom, left, right = limits[0], limits[1], limits[2], limits[3]
    stride = (width + 3) * channels
    for c in range(width):
        at = like(limits, c)
        y, x = y0 + ys * at, x0 + xs * at
        y, x = y + dy[c], x + dx[c]
        y = top if y < top else y
        y = bottom if y > bottom else y
        x = left if x < left else x
        x = right if x > right else x
        i, j = np.int64(y), np.int64(x)
        down, beside = y - like(limits, i), x - like(limits, j)
        p = padded + (i * stride + j * channels)
        for k in range(channels):
            a, b = p[k], p[channels + k]
            d, e = p[stride + k], p[stride + channels + k]
            upper, lower = a + beside * (b - a), d + beside * (e - d)
            out[c * channels + k] = upper + down * (lower - upper)


@on_arrays(_REAL, _REAL, _REAL, _REAL, _REAL, _REAL, _INTEGER)
def warp(out, images, maps, fields, limits, padded, sizes):
    """out (n, height, width, channels): pixel (r, c) of image k is that of images[k] elsewhere.

    maps[k] = (y/r, y/c, y, x/r, x/c, x) gives its position, + fields[k] (2, height, width) if there
    are any, counted in the padded image, within limits = (least y, largest y, least x, largest x,
    fill). sizes = (n, height, width, channels, edges, has fields). `out` may be `images`. Destroys
    padded (height + 3, width + 3, channels), and after it zeros (width,), which it writes.
    """
    n, height, width, channels = sizes[0], sizes[1], sizes[2], sizes[3]
    pixels = height * width
    zeros = padded + (height + 3) * (width + 3) * channels
    for c in range(width):
        zeros[c] = like(limits, 0)
    for k in range(n):
        at = k * pixels * channels
        pad_image(padded, images + at, height, width, channels, sizes[4], limits[4])
        m = maps + 6 * k
        for r in range(height):
            row = like(limits, r)
            place = (m[0] * row + m[2], m[1], m[3] * row + m[5], m[4])
            dy, dx = zeros, zeros
            if sizes[5] != 0:
                dy = fields + (2 * k * pixels + r * width)
                dx = dy + pixels
            to = out + (at + r * width * channels)
            if channels == 1:
                warp_row(to, padded, place, dy, dx, limits, width, 1)
            else:
                warp_row(to, padded, place, dy, dx, limits, width, channels)
    return 0


@subroutine
def add_multiple(total, values, weight, count):
    """total = total + weight values, for `count` elements."""
    for c in range(count):
        total[c] = total[c] + weight * values[c]


@subroutine
def set_zeros(out, count):
    zero = like(out, 0)
    for c in range(count):
        out[c] = zero


@subroutine
def copy_rows(out, out_stride, values, stride, height, width):
    for r in range(height):
        for c in range(width):
            out[r * out_stride + c] = values[r * stride + c]


@on_arrays(_REAL, _REAL, _REAL, _INTEGER)
def smooth(fields, weights, work, sizes):
    """fields (n, height, width): each smoothed by weights (2 reach + 1), down and to the right.

    There are zeros around it. sizes = (n, height, width, reach). The rows lie one after another
    with `reach` zeros before and after each, so that a weight is that of all of them in one loop.
    Destroys work (2 height (width + reach) + reach).
    """
    height, width, reach = sizes[1], sizes[2], sizes[3]
    stride = width + reach
    size = height * stride
    rows = work + reach
    total = rows + size
    for k in range(sizes[0]):
        field = fields + k * height * width
        set_zeros(work, reach + size)
        set_zeros(total, size)
        copy_rows(rows, stride, field, width, height, width)
        for t in range(2 * reach + 1):
            down = t - reach
            begin, end = max(0, -down), min(height, height - down)
            if begin < end:
                source = rows + (begin + down) * stride
                add_multiple(total + begin * stride, source, weights[t], (end - begin) * stride)
        copy_rows(rows, size, total, size, 1, size)
        set_zeros(total, size)
        for t in range(2 * reach + 1):
            add_multiple(total, work + t, weights[t], size - reach)
        copy_rows(field, width, total, stride, height, width)
    return 0


@on_arrays(_REAL, _INTEGER, _REAL, _INTEGER)
def cut(images, boxes, fill, sizes):
    """images (n, height, width, channels): fill[0] in boxes (n, 4) = (top, bottom, left, right).

    sizes = (n, height, width, channels).
    """
    n, height, channels = sizes[0], sizes[1], sizes[3]
    row, value = sizes[2] * channels, fill[0]
    for k in range(n):
        box = boxes + 4 * k
        for r in range(box[0], box[1]):
            out = images + (k * height + r) * row
            for i in range(box[2] * channels, box[3] * channels):
                out[i] = value
    return 0

"""Kernels that move rows: into the workspace before a batch, and results out of it."""

from __future__ import annotations

import numpy as np

from ...tables import FEATURE_TYPES, INDEX_TYPES, STORED_TYPES, Status
from .context import buffer, rows_of_part, sample_of
from .conversion import convert
from .elementary import exp, sigmoid
from .kernels import kernel, subroutine
from .memory import address_of, doubles, elements_of, integers, labels32, like, reals
from .reductions import FEW, SUM_LANES, first_at_least, maximum_of
from .simd import prefetch_line
from .softmax import softmax

_BAD_INDEX = int(Status.BAD_INDEX)
_CACHE_LINE = 64
#: Bytes of a batch that stays in L2 until it is gathered.
_PREFETCHED_BATCH = 1 << 17
#: Bytes of a row of X from which on its prefetch pays.
_PREFETCHED_ROW = 256
#: Stored elements of a sparse row that are prefetched.
_PREFETCHED_STORED = 256
#: Rows between the prefetch of a sparse row and its gather.
_STORED_AHEAD = 8


@subroutine
def prefetch_next_row(ctx, i, size):
    """Prefetch into L2 the row of X, of `size` bytes, that row i of the next batch is.

    Rows in random order are cache misses, and the processor's own prefetcher needs some lines of a
    row before it sees a stream. For short rows this is no use: their misses fall together either
    way.
    """
    following = ctx.start + ctx.m + i
    if ctx.order and following < ctx.n_rows:
        sample = integers(ctx, ctx.order)[following]
        if 0 <= sample < ctx.n_samples:
            row = ctx.X + sample * size
            for at in range(0, size, _CACHE_LINE):
                prefetch_line(row + at)


def make_gather(name):
    """The kernel that gathers rows of X whose elements have the type of that name."""
    elements = elements_of(name)
    width = np.dtype(name).itemsize

    def gather(ctx, part, parts):
        """input[i] = input_scale X[order[start + i]] for the rows of the batch; split by rows."""
        n = ctx.n_inputs
        source, out = elements(ctx, ctx.X), reals(ctx, ctx.input)
        factor = like(out, ctx.input_scale)
        size = n * width
        prefetches = size >= _PREFETCHED_ROW and ctx.batch_size * size <= _PREFETCHED_BATCH
        begin, end = rows_of_part(ctx, part, parts)
        for i in range(begin, end):
            sample = sample_of(ctx, i)
            if sample < 0:
                return _BAD_INDEX
            if prefetches:
                prefetch_next_row(ctx, i, size)
            convert(out + i * n, source + sample * n, factor, n)
        return 0

    gather.__name__ = f"gather_{name}"
    return kernel(gather)


for _type in FEATURE_TYPES:
    make_gather(_type.name)


@subroutine
def prefetch_range(address, size):
    """Prefetch into L2 the cache lines of `size` bytes."""
    for at in range(0, size, _CACHE_LINE):
        prefetch_line(address + at)
    prefetch_line(address + size - 1)  # it may begin within a line


def make_stored_prefetch(name, index_name):
    """The function that prefetches rows of a sparse X with these types."""
    numbers = elements_of(index_name)
    width, index_width = np.dtype(name).itemsize, np.dtype(index_name).itemsize

    @subroutine
    def prefetch_stored(ctx, i):
        """Prefetch what is stored of row i of the batch or, beyond its end, of the next one.

        Rows in random order are cache misses, of which each is two here, one after the other.
        """
        if not ctx.order or ctx.start + i + _STORED_AHEAD >= ctx.n_rows:
            return
        indptr = numbers(ctx, ctx.indptr)
        sample, later = sample_of(ctx, i), sample_of(ctx, i + _STORED_AHEAD)
        if sample < 0 or later < 0:
            return
        prefetch_line(address_of(indptr + later))
        begin = np.int64(indptr[sample])
        count = min(np.int64(indptr[sample + 1]) - begin, _PREFETCHED_STORED)
        prefetch_range(ctx.X + begin * width, count * width)
        prefetch_range(ctx.indices + begin * index_width, count * index_width)

    return prefetch_stored


def make_sparse_gather(name, index_name):
    """The kernel that gathers rows of a sparse X whose values and indices have these types."""
    elements, numbers = elements_of(name), elements_of(index_name)
    prefetch_stored = make_stored_prefetch(name, index_name)

    def gather(ctx, part, parts):
        """input[i] = input_scale X[order[start + i]] for the rows of the batch; split by rows.

        All of a row becomes input_scale 0, then its stored values are put in their columns; + 0
        makes a stored -0 what it is in a dense matrix, to whose zeros it is added.
        """
        n = ctx.n_inputs
        values, indices = elements(ctx, ctx.X), numbers(ctx, ctx.indices)
        indptr = numbers(ctx, ctx.indptr)
        factor = like(reals(ctx, ctx.input), ctx.input_scale)
        zero = factor * like(factor, 0)
        begin, end = rows_of_part(ctx, part, parts)
        for i in range(begin, end):
            sample = sample_of(ctx, i)
            if sample < 0:
                return _BAD_INDEX
            first, last = np.int64(indptr[sample]), np.int64(indptr[sample + 1])
            if first < 0 or first > last or last > ctx.n_stored:
                return _BAD_INDEX
            prefetch_stored(ctx, i + _STORED_AHEAD)
            y = reals(ctx, ctx.input) + i * n
            for j in range(n):
                y[j] = zero
            for k in range(first, last):
                column = np.int64(indices[k])
                if column < 0 or column >= n:
                    return _BAD_INDEX
                y[column] = factor * like(factor, values[k] + like(values, 0))
        return 0

    gather.__name__ = f"gather_sparse_{name}_{index_name}"
    return kernel(gather)


for _type in STORED_TYPES:
    for _index_type in INDEX_TYPES:
        make_sparse_gather(_type.name, _index_type.name)


@kernel
def gather_targets(ctx, part, parts):
    """targets[i] = Y[order[start + i]], or the one-hot code of the label; split by rows."""
    n = ctx.n_outputs
    targets, labels = buffer(ctx, ctx.targets), labels32(ctx, ctx.labels)
    zero, one = like(targets, 0), like(targets, 1)
    begin, end = rows_of_part(ctx, part, parts)
    if ctx.labels:
        for j in range(begin * n, end * n):
            targets[j] = zero
    for i in range(begin, end):
        sample = sample_of(ctx, i)
        if sample < 0:
            return _BAD_INDEX
        t = targets + i * n
        if ctx.labels:
            label = np.int64(labels[sample])
            if label < 0 or label >= max(n, 2):
                return _BAD_INDEX
            if n == 1:
                t[0] = like(t, label)
            else:
                t[label] = one
        else:
            y = reals(ctx, ctx.Y) + sample * n
            for j in range(n):
                t[j] = y[j]
    return 0


@kernel
def sum_weights(ctx, thread, threads):
    """Unless the batch is a piece: weight_sum and scales, in every thread's context."""
    if ctx.accumulates:
        return 0
    weights = doubles(ctx, ctx.weights)
    weight_sum = 0.0
    for i in range(ctx.m):
        sample = sample_of(ctx, i)
        if sample < 0:
            return _BAD_INDEX
        weight_sum += weights[sample]
    ctx.weight_sum = weight_sum
    if ctx.mean:
        ctx.scale = 1.0 / weight_sum if weight_sum > 0.0 else 0.0
    if ctx.penalty_is_row:
        ctx.penalty_scale = ctx.scale
    return 0


@kernel
def store_output(ctx, part, parts):
    """out[start + i] = the output buffer's row i; split by rows."""
    n = ctx.n_outputs
    source, out = buffer(ctx, ctx.output), reals(ctx, ctx.out) + ctx.start * n
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin * n, end * n):
        out[i] = source[i]
    return 0


@kernel
def store_sigmoid(ctx, part, parts):
    """out[start + i] = sigmoid of the output buffer's row i; split by rows."""
    n = ctx.n_outputs
    source, out = buffer(ctx, ctx.output), reals(ctx, ctx.out) + ctx.start * n
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin * n, end * n):
        out[i] = sigmoid(source[i])
    return 0


@kernel
def store_softmax(ctx, part, parts):
    """out[start + i] = softmax of the output buffer's row i; split by rows."""
    n = ctx.n_outputs
    source, out = buffer(ctx, ctx.output), reals(ctx, ctx.out) + ctx.start * n
    begin, end = rows_of_part(ctx, part, parts)
    softmax(ctx, part, source + begin * n, out + begin * n, end - begin, n)
    return 0


@kernel
def store_exp(ctx, part, parts):
    """out[start + i] = the exponentials of the output buffer's row i; split by rows."""
    n = ctx.n_outputs
    source, out = buffer(ctx, ctx.output), reals(ctx, ctx.out) + ctx.start * n
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin * n, end * n):
        out[i] = exp(source[i])
    return 0


@kernel
def store_mean_variance(ctx, part, parts):
    """out[start + i] = the output buffer's row i, with the exponentials of its second half.

    It is split by rows.
    """
    n = ctx.n_outputs
    source, out = buffer(ctx, ctx.output), reals(ctx, ctx.out) + ctx.start * n
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin * n, end * n):
        out[i] = exp(source[i])
    for i in range(begin, end):
        for j in range(i * n, i * n + n // 2):
            out[j] = source[j]
    return 0


@kernel
def mark_correct_by_class(ctx, part, parts):
    """row_correct[i] = 1 where output and target are largest at the same place; split by rows.

    The largest of the targets made from a label is at the label.
    """
    n = ctx.n_outputs
    output, targets = buffer(ctx, ctx.output), buffer(ctx, ctx.targets)
    labels, correct = labels32(ctx, ctx.labels), doubles(ctx, ctx.row_correct)
    by_label = ctx.labels != 0 and n > FEW  # for few, comparing is faster
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin, end):
        if by_label:
            sample = sample_of(ctx, i)
            if sample < 0:
                return _BAD_INDEX
            place = np.int64(labels[sample])
        else:
            place = place_of_maximum(targets + i * n, n)
        correct[i] = 1.0 if place_of_maximum(output + i * n, n) == place else 0.0
    return 0


@subroutine
def place_of_maximum(x, n):
    """The first i < n with the largest x[i]; skips NaN, except in x[0] of at most SUM_LANES."""
    first, largest = 0, x[0]
    if n <= FEW:
        for i in range(1, n):
            first = i if x[i] > largest else first
            largest = x[i] if x[i] > largest else largest
    elif n > SUM_LANES or largest == largest:
        first = min(n - 1, first_at_least(x, maximum_of(x, n), n))
    return first


@kernel
def mark_correct_by_sign(ctx, part, parts):
    """row_correct[i] = 1 where the logits > 0 are those with targets > 1/2; split by rows."""
    n = ctx.n_outputs
    output, targets = buffer(ctx, ctx.output), buffer(ctx, ctx.targets)
    correct = doubles(ctx, ctx.row_correct)
    zero, half = like(output, 0), like(output, 0.5)
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin, end):
        z, t = output + i * n, targets + i * n
        all_correct = 1.0
        for j in range(n):
            all_correct = all_correct if (z[j] > zero) == (t[j] > half) else 0.0
        correct[i] = all_correct
    return 0

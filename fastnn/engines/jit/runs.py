"""Sums of few elements, in runs: each virtual lane, or column, adds up to RUN elements in the
network's type, and then the runs are added in order, in float64.

The lanes are those of :mod:`.reductions`, and the same tree joins them. The last elements, of which
not every lane has one, are a run of their own.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ...tables import NONE
from .context import buffer, is_continued, op_of, share
from .kernels import subroutine
from .memory import Pointer, doubles, like, reals
from .reductions import SUM_LANES, join_lanes
from .simd import emit_loop, fused, word
from .vectors import REAL, at_offset, broadcast, lane_mask, masked_load, masked_store

#: Elements of a lane, or rows of a column, of a run. Changing it changes results bitwise.
RUN = 8

_DOUBLES = ir.VectorType(ir.DoubleType(), SUM_LANES)


def _widened(builder, vector):
    return vector if vector.type == _DOUBLES else builder.fpext(vector, _DOUBLES)


def _sum_in_runs(builder, real, pointers, count, n_sums, take):
    """Emit the sums, in float64; ``take(runs, vectors, mask)`` adds a vector of each pointer.

    `mask` is None but for the last elements.
    """
    width = real.bitwidth // 8
    vector = ir.VectorType(REAL[real], SUM_LANES)
    nothing, none = [ir.Constant(vector, None)] * n_sums, [ir.Constant(_DOUBLES, None)] * n_sums
    step = word(SUM_LANES * width)

    def join(totals, runs):
        pairs = zip(totals, runs, strict=True)
        return [builder.fadd(total, _widened(builder, run)) for total, run in pairs]

    def load(place, mask):
        pointer = at_offset(builder, place, 0, vector)
        if mask is None:
            return builder.load(pointer, align=width)
        return masked_load(builder, pointer, mask, vector, width)

    def one(*values):
        runs, places = values[:n_sums], values[n_sums:]
        runs = take(runs, [load(place, None) for place in places], None)
        return *runs, *(builder.add(place, step) for place in places)

    def run(left, *values):
        totals, places = values[:n_sums], values[n_sums:]
        is_short = builder.icmp_signed("<", left, word(RUN))
        length = builder.select(is_short, left, word(RUN))
        ends = emit_loop(builder, length, (*nothing, *places), one)
        return builder.sub(left, word(RUN)), *join(totals, ends[:n_sums]), *ends[n_sums:]

    def rest(*values):
        totals, places = values[:n_sums], values[n_sums:]
        runs = take(nothing, [load(place, mask) for place in places], mask)
        return *join(totals, runs), *places

    whole = builder.sdiv(count, word(SUM_LANES))
    n_runs = builder.sdiv(builder.add(whole, word(RUN - 1)), word(RUN))
    _, *values = emit_loop(builder, n_runs, (whole, *none, *pointers), run)
    left = builder.sub(count, builder.mul(whole, word(SUM_LANES)))
    mask = lane_mask(builder, left, SUM_LANES)
    some = builder.zext(builder.icmp_signed(">", left, word(0)), word(0).type)
    totals = emit_loop(builder, some, values, rest)[:n_sums]
    return [join_lanes(builder, total, builder.fadd) for total in totals]


def _differences(squared):
    """The sum of x[i] - middle, or of its square, for i < count, as an intrinsic."""

    @intrinsic
    def sum_of_terms(typingctx, x, middle, count):
        def codegen(context, builder, sig, args):
            vector = ir.VectorType(REAL[x.dtype], SUM_LANES)
            middle = broadcast(builder, args[1], vector)

            def take(runs, vectors, mask):
                d = builder.fsub(vectors[0], middle)
                if mask is not None:
                    d = builder.select(mask, d, ir.Constant(vector, None))
                return [fused(builder, d, d, runs[0]) if squared else builder.fadd(runs[0], d)]

            return _sum_in_runs(builder, x.dtype, args[:1], args[2], 1, take)[0]

        return types.float64(x, x.dtype, types.int64), codegen

    return sum_of_terms


sum_of_differences, sum_of_squares = _differences(False), _differences(True)


def _gradient(with_gamma):
    @intrinsic
    def sums(typingctx, out, dz, gamma, x, mean, count):
        def codegen(context, builder, sig, args):
            out, dz, gamma, x, mean, count = args
            mean = broadcast(builder, mean, ir.VectorType(REAL[sig.args[1].dtype], SUM_LANES))

            def take(runs, vectors, mask):
                g, x, *weights = vectors
                if weights:
                    g = builder.fmul(g, weights[0])
                product = fused(builder, g, builder.fsub(x, mean), runs[1])
                return [builder.fadd(runs[0], g), product]

            pointers = (dz, x, gamma) if with_gamma else (dz, x)
            found = _sum_in_runs(builder, sig.args[1].dtype, pointers, count, 2, take)
            for index, value in enumerate(found):
                builder.store(value, at_offset(builder, out, 8 * index, ir.DoubleType()))
            return context.get_dummy_value()

        return types.none(out, dz, dz, dz, dz.dtype, types.int64), codegen

    return sums


#: ``sums(out, dz, gamma, x, mean, count)``: out[0] = the sum of g = dz gamma and
#: out[1] = that of g (x - mean); the second function is for g = dz.
sums_of_gradient, sums_of_plain_gradient = _gradient(True), _gradient(False)


def _make_run_of_rows(n_vectors: int, whole: bool):
    """gamma[j] += dz xhat and beta[j] += dz, summed over at most RUN rows, as an intrinsic.

    ``add(gamma, beta, x, dz, moments, shape)`` is for n_vectors SUM_LANES columns, or for fewer
    columns unless `whole`. `shape` is (n, per_row, rows, columns): rows of x and dz are n elements
    apart, the pairs of mean and inv at `moments` per_row; xhat = (x - mean) inv.
    """

    @intrinsic
    def add_run(typingctx, gamma, beta, x, dz, moments, shape):
        real = x.dtype
        width = real.bitwidth // 8
        vector = ir.VectorType(REAL[real], SUM_LANES)

        def codegen(context, builder, sig, args):
            gamma, beta, x, dz, moments, shape = args
            n, per_row, rows, some = (builder.extract_value(shape, i) for i in range(4))
            row, moments_row = (builder.mul(count, word(width)) for count in (n, per_row))
            masks = [
                lane_mask(builder, builder.sub(some, word(v * SUM_LANES)), SUM_LANES)
                for v in range(n_vectors)
            ]

            def load(place, v, type_, size):
                pointer = at_offset(builder, place, v * SUM_LANES * size, type_)
                if whole:
                    return pointer, builder.load(pointer, align=size)
                return pointer, masked_load(builder, pointer, masks[v], type_, size)

            def scalar(place, index):
                pointer = at_offset(builder, place, index * width, REAL[real])
                return broadcast(builder, builder.load(pointer, align=width), vector)

            def one(x, dz, moments, *sums):
                mean, inv = scalar(moments, 0), scalar(moments, 1)
                ends = []
                for v in range(n_vectors):
                    d = load(dz, v, vector, width)[1]
                    xhat = builder.fsub(load(x, v, vector, width)[1], mean)
                    xhat = builder.fmul(xhat, inv)
                    ends.append(fused(builder, d, xhat, sums[2 * v]))
                    ends.append(builder.fadd(sums[2 * v + 1], d))
                places = builder.add(x, row), builder.add(dz, row)
                return *places, builder.add(moments, moments_row), *ends

            nothing = [ir.Constant(vector, None)] * (2 * n_vectors)
            _, _, _, *runs = emit_loop(builder, rows, (x, dz, moments, *nothing), one)
            for index, run in enumerate(runs):
                v, place = index // 2, beta if index % 2 else gamma
                pointer, total = load(place, v, _DOUBLES, 8)
                total = builder.fadd(total, _widened(builder, run))
                if whole:
                    builder.store(total, pointer, align=8)
                else:
                    masked_store(builder, total, pointer, masks[v], 8)
            return context.get_dummy_value()

        doubles, words = Pointer(types.float64), types.UniTuple(types.int64, 4)
        return types.none(doubles, doubles, x, x, x, words), codegen

    return add_run


#: Columns that are summed over the rows together, if there are so many.
_CHUNK = 2 * SUM_LANES
_add_run_of_chunk, _add_run_of_rows = _make_run_of_rows(2, True), _make_run_of_rows(1, False)


@subroutine
def sum_rows_of_columns(ctx, moments, per_row, groups, part, parts):
    """dgamma_j = sum over i of dz_ij xhat_ij and dbeta_j = sum over i of dz_ij.

    x and dz of the operation are (m, n), in `groups` groups of columns, and xhat = (x - mean) inv
    with the pairs of mean and inv of each row's groups, which lie `per_row` elements apart. Keeps
    2 n totals in the per-batch space, for further pieces of the batch. There may be no beta.
    """
    op = op_of(ctx)
    n = op.n_out
    width = n // groups
    x, dz = buffer(ctx, op.x), buffer(ctx, op.da)
    gamma = doubles(ctx, ctx.batch) + op.batch
    beta = gamma + n
    begin, end = share(n, 16, part, parts)
    if not is_continued(ctx):
        for j in range(begin, end):
            gamma[j] = 0.0
            beta[j] = 0.0
    j = begin
    while j < end:
        group = j // width
        left = min(end - j, (group + 1) * width - j)
        some = _CHUNK if left >= _CHUNK else min(left, SUM_LANES)
        for i in range(0, ctx.m, RUN):
            shape = n, per_row, min(RUN, ctx.m - i), some
            at, own = i * n + j, moments + (i * per_row + 2 * group)
            if some == _CHUNK:
                _add_run_of_chunk(gamma + j, beta + j, x + at, dz + at, own, shape)
            else:
                _add_run_of_rows(gamma + j, beta + j, x + at, dz + at, own, shape)
        j += some
    grad = reals(ctx, ctx.grad)
    for j in range(begin, end):
        grad[op.w + j] = like(grad, gamma[j])
    if op.b != NONE:
        for j in range(begin, end):
            grad[op.b + j] = like(grad, beta[j])

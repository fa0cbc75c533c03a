"""The register tiles of a matrix product and of a transpose, as LLVM vector code.

Their width is that of the processor's vectors; the bits of a result do not depend on it.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from . import target
from .simd import call_llvm, fetch_line, fused, word

_WORD = ir.IntType(64)
LANE = ir.IntType(32)
REAL = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


def lanes(real) -> int:
    """Elements of one vector."""
    return target.vector_bytes() * 8 // real.bitwidth


@intrinsic
def vector_lanes(typingctx, pointer):
    """Elements of one vector of the type that a pointer points to."""
    n_lanes = lanes(pointer.dtype)

    def codegen(context, builder, sig, args):
        return word(n_lanes)

    return types.int64(pointer), codegen


def make_tile(
    n_rows: int, n_vectors: int, masked: bool = False, copies: bool = False, fetches: bool = False
):
    """A register tile of a matrix product, as an intrinsic.

    ``tile(c, c_row, first, first_row, a, a_row, a_k, b, b_row, depth, columns, adds, other,
    other_row, next_c)`` computes, for r < n_rows and all columns j of n_vectors vectors, the chain

        t[r, j] = fma(a[r*a_row + k*a_k], b[k*b_row + j], t[r, j])

    for k = 0, 1, ... depth-1 in that order, in registers. The chain starts as
    first[r*first_row + j]; its end is stored as c[r*c_row + j], or added to it if `adds` is 1.

    masked  only the first `columns` lanes of the last vector are read and written
    copies  the rows of b are also written to `other`, one after another
    fetches asks the memory for other[k*other_row], which will be read soon, and for the tile of c
            at next_c, unless that is c
    Reads a, b, first and, with adds, c; writes c, which may overlap first alone.
    """

    @intrinsic
    def tile(
        typingctx, c, c_row, first, first_row, a, a_row, a_k, b, b_row, depth, columns, adds,
        other, other_row, next_c,
    ):  # fmt: skip
        real = c.dtype
        n = lanes(real)
        width = real.bitwidth // 8
        element = REAL[real]
        vector = ir.VectorType(element, n)
        places = [(r, v) for r in range(n_rows) for v in range(n_vectors)]

        def codegen(context, builder, sig, args):
            c, c_row, first, first_row, a, a_row, a_k, b, b_row, depth, columns, adds = args[:12]
            other, other_row, next_c = args[12:]
            c_row, first_row, a_row, a_k, b_row, other_row = (
                builder.mul(stride, word(width))
                for stride in (c_row, first_row, a_row, a_k, b_row, other_row)
            )
            mask = lane_mask(builder, columns, n) if masked else None

            def load(base, v):
                pointer = at_offset(builder, base, v * n * width, vector)
                if masked and v == n_vectors - 1:
                    return masked_load(builder, pointer, mask, vector, width)
                return builder.load(pointer, align=width)

            def store(value, base, v):
                pointer = at_offset(builder, base, v * n * width, vector)
                if masked and v == n_vectors - 1:
                    masked_store(builder, value, pointer, mask, width)
                else:
                    builder.store(value, pointer, align=width)

            def rows_of(base, stride):
                return [builder.add(base, builder.mul(stride, word(r))) for r in range(n_rows)]

            a_rows = _row_offsets(builder, a_row, n_rows)
            starts = [load(base, v) for base in rows_of(first, first_row) for v in range(n_vectors)]

            if fetches:
                with builder.if_then(builder.icmp_signed("!=", next_c, c)):
                    for row in rows_of(next_c, c_row):
                        for v in range(n_vectors):
                            fetch_line(builder, builder.add(row, word(v * n * width)))

            before = builder.block
            loop = builder.append_basic_block("depth")
            after = builder.append_basic_block("stored")
            builder.cbranch(builder.icmp_signed(">", depth, word(0)), loop, after)
            builder.position_at_end(loop)
            left, a_at, b_at, other_at = phis = [builder.phi(_WORD) for _ in range(4)]
            chains = [builder.phi(vector) for _ in places]
            b_vectors = [load(b_at, v) for v in range(n_vectors)]
            if copies:
                for v, value in enumerate(b_vectors):
                    store(value, other_at, v)
            if fetches:
                fetch_line(builder, other_at)
            sums = []
            for r in range(n_rows):
                at = a_at if r == 0 else builder.add(a_at, a_rows[r](builder))
                pointer = builder.inttoptr(at, element.as_pointer())
                factor = broadcast(builder, builder.load(pointer), vector)
                for v in range(n_vectors):
                    sums.append(fused(builder, factor, b_vectors[v], chains[r * n_vectors + v]))
            following = [
                builder.sub(left, word(1)),
                builder.add(a_at, a_k),
                builder.add(b_at, b_row),
                builder.add(other_at, word(n_vectors * n * width) if copies else other_row),
            ]
            for phi, start, value in zip(
                phis + chains, [depth, a, b, other, *starts], following + sums, strict=True
            ):
                phi.add_incoming(start, before)
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed(">", following[0], word(0)), loop, after)

            builder.position_at_end(after)
            results = []
            for start, value in zip(starts, sums, strict=True):
                result = builder.phi(vector)
                result.add_incoming(start, before)
                result.add_incoming(value, loop)
                results.append(result)
            c_rows = rows_of(c, c_row)
            with builder.if_else(builder.icmp_signed("!=", adds, word(0))) as (then, otherwise):
                with then:
                    for (r, v), t in zip(places, results, strict=True):
                        store(builder.fadd(load(c_rows[r], v), t), c_rows[r], v)
                with otherwise:
                    for (r, v), t in zip(places, results, strict=True):
                        store(t, c_rows[r], v)
            return context.get_dummy_value()

        i = types.int64
        return types.none(c, i, c, i, a, i, i, b, i, i, i, i, c, i, c), codegen

    return tile


#: Lanes of a sum over k for very few outputs, whatever the processor has.
SUM_LANES = 16


def make_dots(n_rows: int):
    """Dot products of some rows with one vector, as an intrinsic.

    ``dots(sums, a, a_row, w, depth)`` continues, for r < n_rows and lanes l < SUM_LANES,

        sums[r*SUM_LANES + l] = fma(a[r*a_row + k], w[k], sums[r*SUM_LANES + l])

    over k = l, l + SUM_LANES, ... < depth, in that order. Reads a and w, writes sums.
    """

    @intrinsic
    def dots(typingctx, sums, a, a_row, w, depth):
        real = sums.dtype
        width = real.bitwidth // 8
        vector = ir.VectorType(REAL[real], SUM_LANES)

        def codegen(context, builder, sig, args):
            sums, a, a_row, w, depth = args
            a_row = builder.mul(a_row, word(width))
            places = [
                at_offset(builder, sums, r * SUM_LANES * width, vector) for r in range(n_rows)
            ]
            starts = [builder.load(place, align=width) for place in places]
            step = SUM_LANES * width

            def advance(a_at, w_at, chains, load):
                factor = load(w_at)
                at = a_at
                results = []
                for chain in chains:
                    results.append(fused(builder, load(at), factor, chain))
                    at = builder.add(at, a_row)
                return results

            def load_all(at):
                return builder.load(at_offset(builder, at, 0, vector), align=width)

            whole = builder.sdiv(depth, word(SUM_LANES))
            before = builder.block
            loop = builder.append_basic_block("lanes")
            after = builder.append_basic_block("tail")
            builder.cbranch(builder.icmp_signed(">", whole, word(0)), loop, after)
            builder.position_at_end(loop)
            phis = [builder.phi(_WORD) for _ in range(3)] + [builder.phi(vector) for _ in starts]
            left, a_at, w_at, *chains = phis
            following = [
                builder.sub(left, word(1)),
                builder.add(a_at, word(step)),
                builder.add(w_at, word(step)),
                *advance(a_at, w_at, chains, load_all),
            ]
            for phi, start, value in zip(phis, [whole, a, w, *starts], following, strict=True):
                phi.add_incoming(start, before)
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed(">", following[0], word(0)), loop, after)

            builder.position_at_end(after)
            ends = []
            for start, value in zip([a, w, *starts], following[1:], strict=True):
                end = builder.phi(start.type)
                end.add_incoming(start, before)
                end.add_incoming(value, loop)
                ends.append(end)
            rest = builder.sub(depth, builder.mul(whole, word(SUM_LANES)))
            mask = lane_mask(builder, rest, SUM_LANES)

            def load_rest(at):
                return masked_load(builder, at_offset(builder, at, 0, vector), mask, vector, width)

            with builder.if_else(builder.icmp_signed(">", rest, word(0))) as (then, otherwise):
                with then:
                    for place, value in zip(
                        places, advance(ends[0], ends[1], ends[2:], load_rest), strict=True
                    ):
                        builder.store(value, place, align=width)
                with otherwise:
                    for place, value in zip(places, ends[2:], strict=True):
                        builder.store(value, place, align=width)
            return context.get_dummy_value()

        i = types.int64
        return types.none(sums, sums, i, sums, i), codegen

    return dots


@intrinsic
def sum_of_lanes(typingctx, sums):
    """The sum of SUM_LANES consecutive elements: lane l and l + 8, then l and l + 4, and so on."""
    real = sums.dtype
    width = real.bitwidth // 8

    def codegen(context, builder, sig, args):
        n = SUM_LANES
        vector = ir.VectorType(REAL[real], n)
        total = builder.load(at_offset(builder, args[0], 0, vector), align=width)
        while n > 1:
            n //= 2
            low = shuffle(builder, total, total, list(range(n)))
            high = shuffle(builder, total, total, list(range(n, 2 * n)))
            total = builder.fadd(low, high)
        return builder.extract_element(total, ir.Constant(LANE, 0))

    return real(sums), codegen


def _row_offsets(builder, stride, n_rows):
    """For each row a function that emits its offset from the first, at the place of its use.

    The odd multiples of the stride are kept in registers, the others are those times 2, 4 or 8,
    which an address can hold on x86. LLVM, if it saw through the odd ones, would add the stride
    again and again and wait for each sum: an empty piece of assembly hides where they come from.
    """
    hide = ir.FunctionType(_WORD, [_WORD])
    odd = {
        r: builder.asm(hide, "", "=r,0", [builder.mul(stride, word(r))], False)
        for r in range(1, n_rows, 2)
    }

    def offset(r):
        shift = (r & -r).bit_length() - 1 if r else 0
        root = odd.get(r >> shift)
        return lambda builder: builder.shl(root, word(shift)) if shift else root

    return [offset(r) for r in range(n_rows)]


@intrinsic
def transpose_block(typingctx, target_, target_row, source, source_row):
    """target[j*target_row + i] = source[i*source_row + j] for a block of vector_lanes squared.

    In registers: rows i and i+s exchange half of their lanes, for s = 1, 2, 4, ...
    """
    real = target_.dtype
    n = lanes(real)
    width = real.bitwidth // 8
    vector = ir.VectorType(REAL[real], n)

    def codegen(context, builder, sig, args):
        target_, target_row, source, source_row = args

        def pointer(base, stride, i):
            offset = builder.mul(builder.mul(stride, word(width)), word(i))
            return at_offset(builder, builder.add(base, offset), 0, vector)

        rows = [builder.load(pointer(source, source_row, i), align=width) for i in range(n)]
        s = 1
        while s < n:
            low = [lane if not lane & s else n + lane - s for lane in range(n)]
            high = [lane + s if not lane & s else n + lane for lane in range(n)]
            for i in range(n):
                if not i & s:
                    a, b = rows[i], rows[i + s]
                    rows[i], rows[i + s] = (
                        shuffle(builder, a, b, low),
                        shuffle(builder, a, b, high),
                    )
            s *= 2
        for i, row in enumerate(rows):
            builder.store(row, pointer(target_, target_row, i), align=width)
        return context.get_dummy_value()

    i = types.int64
    return types.none(target_, i, source, i), codegen


def at_offset(builder, base, offset, type_):
    return builder.inttoptr(builder.add(base, word(offset)), type_.as_pointer())


def shuffle(builder, a, b, order):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(LANE, len(order)), order))


def broadcast(builder, value, vector):
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(LANE, 0))
    return shuffle(builder, first, undefined, [0] * vector.count)


def lane_mask(builder, columns, n_lanes):
    """A vector of booleans: lane < columns."""
    indices = ir.VectorType(_WORD, n_lanes)
    lane_numbers = ir.Constant(indices, list(range(n_lanes)))
    return builder.icmp_signed("<", lane_numbers, broadcast(builder, columns, indices))


def masked_load(builder, pointer, mask, vector, align):
    kind = "i" if isinstance(vector.element, ir.IntType) else "f"
    name = f"llvm.masked.load.v{vector.count}{kind}{8 * align}.p0"
    return call_llvm(
        builder, name, vector, [pointer, ir.Constant(LANE, align), mask, ir.Constant(vector, None)]
    )


def masked_store(builder, value, pointer, mask, align):
    name = f"llvm.masked.store.v{value.type.count}f{8 * align}.p0"
    call_llvm(builder, name, ir.VoidType(), [value, pointer, ir.Constant(LANE, align), mask])

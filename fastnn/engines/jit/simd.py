"""Arithmetic as LLVM sees it: fused multiply-add, bit patterns, and the tile of a product.

Nothing here depends on the machine: LLVM splits a vector of :func:`lanes` elements into whatever
registers the host has, and elementwise arithmetic gives the same bits in all of them.
"""

from __future__ import annotations

import platform

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

#: Bytes of the vectors that tiles are made of.
VECTOR_BYTES = 64

_WORD = ir.IntType(64)
_REAL = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_BITS = {types.float32: types.int32, types.float64: types.int64}


@intrinsic
def vector_lanes(typingctx, pointer):
    """Elements of one vector of the type that a pointer points to."""
    n_lanes = lanes(pointer.dtype)

    def codegen(context, builder, sig, args):
        return _int(n_lanes)

    return types.int64(pointer), codegen


def lanes(real) -> int:
    """Elements of one vector: 16 of float32, 8 of float64."""
    return VECTOR_BYTES * 8 // real.bitwidth


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c with one rounding."""

    def codegen(context, builder, sig, args):
        return _fma(builder, *args)

    return a(a, a, a), codegen


@intrinsic
def bits_of(typingctx, x):
    """The bit pattern of a real as an integer of the same width."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], context.get_value_type(sig.return_type))

    return _BITS[x](x), codegen


@intrinsic
def real_of(typingctx, bits):
    """The float64 with a bit pattern: the inverse of :func:`bits_of`."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def times_power_of_two(typingctx, y, n):
    """y 2^n for a whole real n, in two factors, so that tiny results round only once.

    n comes with 1.5 * 2^(bits of the mantissa) added: its last bits are then the whole number.
    """

    def codegen(context, builder, sig, args):
        real, integer = args[0].type, context.get_value_type(_BITS[y])
        bias, shift = (127, 23) if y == types.float32 else (1023, 52)
        rounder = builder.bitcast(context.get_constant(y, 1.5 * 2.0**shift), integer)
        exponent = builder.sub(builder.bitcast(args[1], integer), rounder)
        half = builder.ashr(exponent, ir.Constant(integer, 1))

        def power(n):
            biased = builder.add(n, ir.Constant(integer, bias))
            return builder.bitcast(builder.shl(biased, ir.Constant(integer, shift)), real)

        first = builder.fmul(args[0], power(half))
        return builder.fmul(first, power(builder.sub(exponent, half)))

    return y(y, y), codegen


#: The control register's bits that turn denormal operands and results into zeros: FTZ and DAZ of
#: x86's MXCSR, FZ of ARM's FPCR.
_FLUSH = {"x86_64": 0x8040, "aarch64": 1 << 24}
_MACHINE = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())


@intrinsic
def flush_denormals(typingctx):
    """Let this thread compute with zeros in place of denormals; returns what to restore."""

    def codegen(context, builder, sig, args):
        before = _read_control(builder)
        _write_control(builder, builder.or_(before, _int(_FLUSH.get(_MACHINE, 0))))
        return before

    return types.int64(), codegen


@intrinsic
def restore_denormals(typingctx, before):
    """Undo :func:`flush_denormals`, whose result this takes."""

    def codegen(context, builder, sig, args):
        _write_control(builder, args[0])
        return context.get_dummy_value()

    return types.none(types.int64), codegen


def _read_control(builder):
    if _MACHINE == "aarch64":
        return _call(builder, "llvm.aarch64.get.fpcr", _WORD, [])
    if _MACHINE != "x86_64":
        return _int(0)
    place = cgutils.alloca_once(builder, ir.IntType(32))
    _call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [_bytes_at(builder, place)])
    return builder.zext(builder.load(place), _WORD)


def _write_control(builder, value):
    if _MACHINE == "aarch64":
        _call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [value])
    elif _MACHINE == "x86_64":
        place = cgutils.alloca_once(builder, ir.IntType(32))
        builder.store(builder.trunc(value, ir.IntType(32)), place)
        _call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [_bytes_at(builder, place)])


def _bytes_at(builder, pointer):
    return builder.bitcast(pointer, ir.IntType(8).as_pointer())


def make_constant(float32: float, float64: float):
    """``c(x)``: a constant in the type of the real x, rounded from the value given for it."""

    @intrinsic
    def constant(typingctx, x):
        def codegen(context, builder, sig, args):
            value = float32 if x == types.float32 else float64
            return context.get_constant(x, value)

        return x(x), codegen

    return constant


def make_polynomial(float32: tuple, float64: tuple):
    """``p(x)``: a polynomial by Horner's rule with fused multiply-adds, highest power first."""

    @intrinsic
    def polynomial(typingctx, x):
        def codegen(context, builder, sig, args):
            coefficients = float32 if x == types.float32 else float64
            value = context.get_constant(x, coefficients[0])
            for coefficient in coefficients[1:]:
                value = _fma(builder, value, args[0], context.get_constant(x, coefficient))
            return value

        return x(x), codegen

    return polynomial


def make_tile(n_rows: int, n_vectors: int, masked: bool):
    """The register tile of a matrix product, as an intrinsic.

    ``tile(c, c_row, a, a_row, a_k, b, b_row, depth, columns, carry)`` computes, for r < n_rows
    and all columns j of n_vectors vectors, the chain

        t[r, j] = fma(a[r*a_row + k*a_k], b[k*b_row + j], t[r, j])

    for k = 0, 1, ... depth-1 in that order, in registers. If carry is 1, t starts as
    c[r*c_row + j] and replaces it; if it is 0, t starts as 0 and is added to it. With `masked`,
    only the first `columns` lanes of the last vector are read and written.
    Reads a, b and c; writes c; c must not overlap a or b.
    """

    @intrinsic
    def tile(typingctx, c, c_row, a, a_row, a_k, b, b_row, depth, columns, carry):
        real = c.dtype
        n_lanes = lanes(real)

        def codegen(context, builder, sig, args):
            c, c_row, a, a_row, a_k, b, b_row, depth, columns, carry = args
            element = _REAL[real]
            vector = ir.VectorType(element, n_lanes)
            width = real.bitwidth // 8
            mask = _lane_mask(builder, columns, n_lanes) if masked else None

            def vector_address(base, row_stride, row, v):
                offset = builder.add(builder.mul(row, row_stride), _int(v * n_lanes))
                return builder.inttoptr(
                    builder.add(base, builder.mul(offset, _int(width))), vector.as_pointer()
                )

            def load(base, row_stride, row, v):
                pointer = vector_address(base, row_stride, row, v)
                if masked and v == n_vectors - 1:
                    return _masked_load(builder, pointer, mask, vector, width)
                return builder.load(pointer, align=width)

            def store(value, base, row_stride, row, v):
                pointer = vector_address(base, row_stride, row, v)
                if masked and v == n_vectors - 1:
                    _masked_store(builder, value, pointer, mask, width)
                else:
                    builder.store(value, pointer, align=width)

            carries = builder.icmp_signed("!=", carry, _int(0))
            zeros = ir.Constant(vector, None)
            places = [(r, v) for r in range(n_rows) for v in range(n_vectors)]
            start = [builder.select(carries, load(c, c_row, _int(r), v), zeros) for r, v in places]
            before = builder.block
            loop = builder.append_basic_block("depth")
            after = builder.append_basic_block("stored")
            builder.cbranch(builder.icmp_signed(">", depth, _int(0)), loop, after)

            builder.position_at_end(loop)
            k = builder.phi(_WORD)
            k.add_incoming(_int(0), before)
            totals = []
            for value in start:
                total = builder.phi(vector)
                total.add_incoming(value, before)
                totals.append(total)
            b_vectors = [load(b, b_row, k, v) for v in range(n_vectors)]
            sums = []
            a_column = builder.mul(k, a_k)
            for r in range(n_rows):
                offset = builder.add(builder.mul(_int(r), a_row), a_column)
                pointer = builder.inttoptr(
                    builder.add(a, builder.mul(offset, _int(width))), element.as_pointer()
                )
                factor = _broadcast(builder, builder.load(pointer), vector)
                for v in range(n_vectors):
                    sums.append(_fma(builder, factor, b_vectors[v], totals[r * n_vectors + v]))
            following = builder.add(k, _int(1))
            k.add_incoming(following, builder.block)
            for total, value in zip(totals, sums, strict=True):
                total.add_incoming(value, builder.block)
            builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
            last = builder.block

            builder.position_at_end(after)
            results = []
            for value, value_after in zip(start, sums, strict=True):
                result = builder.phi(vector)
                result.add_incoming(value, before)
                result.add_incoming(value_after, last)
                results.append(result)
            with builder.if_else(carries) as (then, otherwise):
                with then:
                    for (r, v), t in zip(places, results, strict=True):
                        store(t, c, c_row, _int(r), v)
                with otherwise:
                    for (r, v), t in zip(places, results, strict=True):
                        total = builder.fadd(load(c, c_row, _int(r), v), t)
                        store(total, c, c_row, _int(r), v)
            return context.get_dummy_value()

        word = types.int64
        return types.none(c, word, a, word, word, b, word, word, word, word), codegen

    return tile


def _call(builder, name, result, args):
    """Call an LLVM intrinsic by its full name (llvmlite knows no vectors in names)."""
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def _name(type_):
    if isinstance(type_, ir.VectorType):
        return f"v{type_.count}{_name(type_.element)}"
    return "f32" if isinstance(type_, ir.FloatType) else "f64"


def _fma(builder, a, b, c):
    return _call(builder, f"llvm.fma.{_name(a.type)}", a.type, [a, b, c])


def _int(value: int):
    return ir.Constant(_WORD, value)


def _broadcast(builder, value, vector):
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(first, undefined, zeros)


def _lane_mask(builder, columns, n_lanes):
    """A vector of booleans: lane < columns."""
    indices = ir.VectorType(_WORD, n_lanes)
    lane_numbers = ir.Constant(indices, list(range(n_lanes)))
    return builder.icmp_signed("<", lane_numbers, _broadcast(builder, columns, indices))


def _masked_load(builder, pointer, mask, vector, align):
    return _call(
        builder,
        f"llvm.masked.load.{_name(vector)}.p0",
        vector,
        [pointer, ir.Constant(ir.IntType(32), align), mask, ir.Constant(vector, None)],
    )


def _masked_store(builder, value, pointer, mask, align):
    _call(
        builder,
        f"llvm.masked.store.{_name(value.type)}.p0",
        ir.VoidType(),
        [value, pointer, ir.Constant(ir.IntType(32), align), mask],
    )

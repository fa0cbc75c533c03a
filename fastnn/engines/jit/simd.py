"""Scalar arithmetic in LLVM: fused multiply-add, polynomials, bit patterns, flush-to-zero.

Elementwise arithmetic gives the same bits in a loop vectorised to any width.
"""

from __future__ import annotations

import platform

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_WORD = ir.IntType(64)
_BITS = {types.float32: types.int32, types.float64: types.int64}


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c with one rounding."""

    def codegen(context, builder, sig, args):
        return fused(builder, *args)

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
    """y 2^n for an integer n, in two factors, so that denormal results round only once.

    n is a real to which 1.5 * 2^(bits of the mantissa) was added: its last bits are the integer.
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


#: Bits of the control register that replace denormal operands and results by zeros: FTZ and DAZ in
#: x86's MXCSR, FZ in ARM's FPCR.
_FLUSH = {"x86_64": 0x8040, "aarch64": 1 << 24}
MACHINE = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())


@intrinsic
def flush_denormals(typingctx):
    """Flush denormals to zero in this thread; returns the control register as it was."""

    def codegen(context, builder, sig, args):
        before = _read_control(builder)
        _write_control(builder, builder.or_(before, word(_FLUSH.get(MACHINE, 0))))
        return before

    return types.int64(), codegen


@intrinsic
def keep_denormals(typingctx):
    """Keep denormals in this thread, as other code expects; returns the register as it was."""

    def codegen(context, builder, sig, args):
        before = _read_control(builder)
        _write_control(builder, builder.and_(before, word(~_FLUSH.get(MACHINE, 0))))
        return before

    return types.int64(), codegen


@intrinsic
def restore_denormals(typingctx, before):
    """Restore the control register that one of the two functions above returned."""

    def codegen(context, builder, sig, args):
        _write_control(builder, args[0])
        return context.get_dummy_value()

    return types.none(types.int64), codegen


def _read_control(builder):
    if MACHINE == "aarch64":
        return call_llvm(builder, "llvm.aarch64.get.fpcr", _WORD, [])
    if MACHINE != "x86_64":
        return word(0)
    place = cgutils.alloca_once(builder, ir.IntType(32))
    call_llvm(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [_bytes_at(builder, place)])
    return builder.zext(builder.load(place), _WORD)


def _write_control(builder, value):
    if MACHINE == "aarch64":
        call_llvm(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [value])
    elif MACHINE == "x86_64":
        place = cgutils.alloca_once(builder, ir.IntType(32))
        builder.store(builder.trunc(value, ir.IntType(32)), place)
        call_llvm(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [_bytes_at(builder, place)])


def _bytes_at(builder, pointer):
    return builder.bitcast(pointer, ir.IntType(8).as_pointer())


def prefetch(builder, address):
    """Emit the prefetch of a cache line into L2."""
    pointer = builder.inttoptr(address, ir.IntType(8).as_pointer())
    read, locality, data = (ir.Constant(ir.IntType(32), value) for value in (0, 2, 1))
    call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, read, locality, data])


@intrinsic
def prefetch_line(typingctx, address):
    """Prefetch the cache line of an address into L2."""

    def codegen(context, builder, sig, args):
        prefetch(builder, args[0])
        return context.get_dummy_value()

    return types.none(types.int64), codegen


@intrinsic
def hidden(typingctx, n):
    """The same integer, hidden from LLVM, which vectorises a loop of unknown length."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(args[0].type, [args[0].type])
        return builder.asm(kind, "", "=r,0", [args[0]], False)

    return types.int64(types.int64), codegen


def make_constant(float32: float, float64: float):
    """``c(x)``: a constant in the type of the real x, rounded from the value for that type."""

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
                value = fused(builder, value, args[0], context.get_constant(x, coefficient))
            return value

        return x(x), codegen

    return polynomial


def make_unfused_polynomial(coefficients: tuple):
    """``p(x)``: the same in float64, with two roundings for each power."""

    @intrinsic
    def polynomial(typingctx, x):
        def codegen(context, builder, sig, args):
            value = context.get_constant(x, coefficients[0])
            for coefficient in coefficients[1:]:
                value = builder.fmul(value, args[0])
                value = builder.fadd(value, context.get_constant(x, coefficient))
            return value

        return x(x), codegen

    return polynomial


def call_llvm(builder, name, result, args):
    """Call an LLVM intrinsic by its full name; llvmlite cannot form names with vector types."""
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def _name(type_):
    if isinstance(type_, ir.VectorType):
        return f"v{type_.count}{_name(type_.element)}"
    return "f32" if isinstance(type_, ir.FloatType) else "f64"


def fused(builder, a, b, c):
    """a b + c with one rounding, for scalars or vectors."""
    return call_llvm(builder, f"llvm.fma.{_name(a.type)}", a.type, [a, b, c])


def emit_loop(builder, count, starts, advance):
    """Emit a loop of `count` steps; returns the values behind it.

    The values begin as `starts`; ``advance(*values)`` emits one step and returns the next ones.
    """
    before = builder.block
    body, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed(">", count, word(0)), body, after)
    builder.position_at_end(body)
    left, *values = phis = [builder.phi(start.type) for start in (count, *starts)]
    following = [builder.sub(left, word(1)), *advance(*values)]
    for phi, start, value in zip(phis, (count, *starts), following, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed(">", following[0], word(0)), body, after)
    last = builder.block
    builder.position_at_end(after)
    ends = []
    for start, value in zip(starts, following[1:], strict=True):
        end = builder.phi(start.type)
        end.add_incoming(start, before)
        end.add_incoming(value, last)
        ends.append(end)
    return ends


def word(value: int):
    """An int64 constant."""
    return ir.Constant(_WORD, value)

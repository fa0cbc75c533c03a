"""LLVM vectors: lanes, shuffles, masked loads and stores."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from . import isa
from .simd import call_llvm, word

_WORD = ir.IntType(64)
LANE = ir.IntType(32)
REAL = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


def lanes(real) -> int:
    """Elements of one vector."""
    return isa.vector_bytes() * 8 // real.bitwidth


@intrinsic
def vector_lanes(typingctx, pointer):
    """Elements of one vector of a pointer's element type."""
    n_lanes = lanes(pointer.dtype)

    def codegen(context, builder, sig, args):
        return word(n_lanes)

    return types.int64(pointer), codegen


def at_offset(builder, base, offset, type_):
    """A pointer to a `type_` that lies `offset` bytes behind an address."""
    return builder.inttoptr(builder.add(base, word(offset)), type_.as_pointer())


def shuffle(builder, a, b, order):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(LANE, len(order)), order))


def broadcast(builder, value, vector):
    """The value in every lane."""
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

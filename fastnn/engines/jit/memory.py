"""Typed pointers for leaves: ``x[i]`` and ``row.n_in`` on plain addresses, as in C.

Numba's own arrays carry a shape, an owner and negative indices; a leaf needs none of them, and
without them it compiles in half the time and cannot allocate. Two types do all the work:

``Pointer(real)``
    ``x[i]``, ``x[i] = v``, and ``x + n`` for the pointer n elements further on.
``Struct(dtype, real)``
    a pointer to a record of :mod:`fastnn.engines.tables`: ``ctx.m``, ``row.n_in``. It also knows
    the network's element type ``real``, so that ``reals(ctx, address)`` has the right type and
    one leaf serves float32 and float64.
"""

from __future__ import annotations

import operator

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import (
    intrinsic,
    lower_builtin,
    lower_getattr_generic,
    lower_setattr_generic,
    register_model,
)

from ..tables import CONTEXT, ROW


class Pointer(types.Type):
    """The address of elements of one type."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Pointer({dtype})")


class Struct(types.Type):
    """The address of a record whose fields are 8 bytes wide, in a network of element type real."""

    def __init__(self, layout: np.dtype, real, name: str):
        self.layout = layout
        self.real = real
        super().__init__(f"{name}({real})")

    def field_type(self, field: str):
        if field not in self.layout.fields:
            return None
        return types.float64 if self.layout.fields[field][0] == np.float64 else types.int64


class Half(types.Type):
    """A float16: Numba has none, and not every processor converts one."""

    def __init__(self):
        super().__init__("Half")


@register_model(Half)
class _HalfModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.IntType(16))


def context_type(real):
    """The type of the context pointer that every leaf takes."""
    return Struct(CONTEXT, real, "Context")


def row_type(real):
    """The type of a pointer to a row of the plan."""
    return Struct(ROW, real, "Row")


@register_model(Pointer)
@register_model(Struct)
class _AddressModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.IntType(64))


def _element(builder, context, address, dtype, index=None):
    pointer = builder.inttoptr(address, context.get_value_type(dtype).as_pointer())
    return pointer if index is None else builder.gep(pointer, [index])


@infer_global(operator.getitem)
class _PointerGet(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Pointer) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.int64)
        return None


@infer_global(operator.setitem)
class _PointerSet(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Pointer) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.int64, args[0].dtype)
        return None


@infer_global(operator.add)
class _PointerAdd(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Pointer) and isinstance(args[1], types.Integer):
            return signature(args[0], args[0], types.int64)
        return None


@lower_builtin(operator.getitem, Pointer, types.int64)
def _get(context, builder, sig, args):
    return builder.load(_element(builder, context, args[0], sig.args[0].dtype, args[1]))


@lower_builtin(operator.setitem, Pointer, types.int64, types.Any)
def _set(context, builder, sig, args):
    builder.store(args[2], _element(builder, context, args[0], sig.args[0].dtype, args[1]))


@lower_builtin(operator.add, Pointer, types.int64)
def _add(context, builder, sig, args):
    width = context.get_abi_sizeof(context.get_value_type(sig.args[0].dtype))
    return builder.add(args[0], builder.mul(args[1], ir.Constant(ir.IntType(64), width)))


@infer_getattr
class _StructFields(AttributeTemplate):
    key = Struct

    def generic_resolve(self, struct, field):
        return struct.field_type(field)


@lower_getattr_generic(Struct)
def _get_field(context, builder, struct, address, field):
    offset = ir.Constant(ir.IntType(64), struct.layout.fields[field][1])
    return builder.load(
        _element(builder, context, builder.add(address, offset), struct.field_type(field))
    )


@lower_setattr_generic(Struct)
def _set_field(context, builder, sig, args, field):
    struct = sig.args[0]
    offset = ir.Constant(ir.IntType(64), struct.layout.fields[field][1])
    value = context.cast(builder, args[1], sig.args[1], struct.field_type(field))
    builder.store(
        value,
        _element(builder, context, builder.add(args[0], offset), struct.field_type(field)),
    )


def _cast_address(make_type):
    """An intrinsic that turns (typed pointer, address) into a pointer of make_type(first)."""

    @intrinsic
    def cast(typingctx, like, address):
        def codegen(context, builder, sig, args):
            return args[1]

        return make_type(like)(like, types.int64), codegen

    return cast


#: ``reals(ctx, address)``: a pointer to elements of the network's type.
reals = _cast_address(lambda struct: Pointer(struct.real))
#: ``doubles(ctx, address)``, ``integers(...)``, ``labels32(...)``: to float64, int64, int32.
doubles = _cast_address(lambda struct: Pointer(types.float64))
integers = _cast_address(lambda struct: Pointer(types.int64))
labels32 = _cast_address(lambda struct: Pointer(types.int32))


def elements_of(name: str):
    """``elements(ctx, address)``: a pointer to elements of a type of NumPy's.

    A float16 is read as its bit pattern (see ``conversion.py``).
    """
    element = Half() if name == "float16" else getattr(types, {"bool": "uint8"}.get(name, name))
    return _cast_address(lambda struct: Pointer(element))


#: ``row_at(ctx, address)``: a pointer to a row of the plan.
row_at = _cast_address(lambda struct: row_type(struct.real))


@intrinsic
def address_of(typingctx, pointer):
    """The address that a pointer holds, as an int64."""

    def codegen(context, builder, sig, args):
        return args[0]

    return types.int64(pointer), codegen


@intrinsic
def like(typingctx, pointer_or_number, value):
    """`value` as the element type of a pointer or struct, or as the type of a number.

    Numba would otherwise promote every float32 expression with a constant to float64.
    """
    target = getattr(pointer_or_number, "real", None)
    if isinstance(pointer_or_number, Pointer):
        target = pointer_or_number.dtype
    elif isinstance(pointer_or_number, types.Number):
        target = pointer_or_number

    def codegen(context, builder, sig, args):
        return context.cast(builder, args[1], sig.args[1], sig.return_type)

    return target(pointer_or_number, numba.types.unliteral(value)), codegen


def _call(n_arguments):
    """An intrinsic that calls an address with so many int64 arguments and returns an int64."""

    @intrinsic
    def call(typingctx, address, arguments):
        def codegen(context, builder, sig, args):
            word = ir.IntType(64)
            function = ir.FunctionType(word, [word] * n_arguments)
            pointer = builder.inttoptr(args[0], function.as_pointer())
            return builder.call(pointer, cgutils.unpack_tuple(builder, args[1]))

        return types.int64(types.int64, types.UniTuple(types.int64, n_arguments)), codegen

    return call


#: ``call_leaf(address, (context, part, parts))`` -> status.
call_leaf = _call(3)
#: ``call_inner(address, (z, a, da, count, row))`` -> status.
call_inner = _call(5)
#: ``call_launch(address, (leaf, context, parts))`` -> status.
call_launch = _call(3)
#: ``call_product(address, (c, c_row, a, a_row, a_k, ...))``: see ``products.product``.
call_product = _call(14)

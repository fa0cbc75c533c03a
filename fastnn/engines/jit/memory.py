"""Typed pointers for kernels: ``x[i]`` and ``op.n_in`` on plain addresses, as in C.

Numba's own arrays carry a shape, an owner and negative indices. Kernels need none of these;
without them they compile in half the time and cannot allocate. There are two types:

``Pointer(dtype)``
    ``x[i]``, ``x[i] = v``, and ``x + n``, the pointer n elements further.
``Struct(layout, real)``
    A pointer to a record of :mod:`fastnn.tables`: ``ctx.m``, ``op.n_in``. It carries the
    network's element type ``real``, which gives ``reals(ctx, address)`` its type, so one source
    serves float32 and float64.
"""

from __future__ import annotations

import operator

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.errors import TypingError
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

from ...tables import CONTEXT, GROUP, OP


class Pointer(types.Type):
    """The address of elements of one type."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Pointer({dtype})")


class Struct(types.Type):
    """The address of a record of 8-byte fields, in a network of element type `real`."""

    def __init__(self, layout: np.dtype, real, name: str):
        self.layout = layout
        self.real = real
        super().__init__(f"{name}({real})")

    def field_type(self, field: str):
        if field not in self.layout.fields:
            return None
        return types.float64 if self.layout.fields[field][0] == np.float64 else types.int64


class Half(types.Type):
    """A float16, which Numba lacks; :mod:`.conversion` decodes its bit pattern."""

    def __init__(self):
        super().__init__("Half")


@register_model(Half)
class _HalfModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.IntType(16))


def context_type(real):
    """The type of the context pointer, the first argument of every kernel."""
    return Struct(CONTEXT, real, "Context")


def op_type(real):
    """The type of a pointer to an operation of the plan."""
    return Struct(OP, real, "Op")


def group_type(real):
    """The type of a pointer to a group of the optimizer."""
    return Struct(GROUP, real, "Group")


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
    """An intrinsic ``cast(struct, address)``: the address as a ``make_type(struct)``."""

    @intrinsic
    def cast(typingctx, like, address):
        def codegen(context, builder, sig, args):
            return args[1]

        return make_type(like)(like, types.int64), codegen

    return cast


#: ``reals(ctx, address)``: a pointer to elements of the network's type.
reals = _cast_address(lambda struct: Pointer(struct.real))
#: ``doubles(ctx, address)``, ``integers(...)``, ``labels32(...)``, ``words32(...)``: to float64,
#: int64, int32, uint32.
doubles = _cast_address(lambda struct: Pointer(types.float64))
integers = _cast_address(lambda struct: Pointer(types.int64))
labels32 = _cast_address(lambda struct: Pointer(types.int32))
words32 = _cast_address(lambda struct: Pointer(types.uint32))


def elements_of(name: str):
    """``elements(ctx, address)``: a pointer to elements of the NumPy type of that name."""
    element = Half() if name == "float16" else getattr(types, {"bool": "uint8"}.get(name, name))
    return _cast_address(lambda struct: Pointer(element))


#: ``op_at(ctx, address)``: a pointer to an operation of the plan.
op_at = _cast_address(lambda struct: op_type(struct.real))
#: ``group_at(ctx, address)``: a pointer to a group of the optimizer.
group_at = _cast_address(lambda struct: group_type(struct.real))


@intrinsic
def address_of(typingctx, pointer):
    """The address in a pointer, as an int64."""

    def codegen(context, builder, sig, args):
        return args[0]

    return types.int64(pointer), codegen


@intrinsic
def like(typingctx, pointer_or_number, value):
    """`value` in the element type of a pointer or struct, or in the type of a number.

    Without it Numba promotes float32 expressions with a constant to float64.
    """
    dtype = getattr(pointer_or_number, "real", None)
    if isinstance(pointer_or_number, Pointer):
        dtype = pointer_or_number.dtype
    elif isinstance(pointer_or_number, types.Number):
        dtype = pointer_or_number

    def codegen(context, builder, sig, args):
        return context.cast(builder, args[1], sig.args[1], sig.return_type)

    return dtype(pointer_or_number, numba.types.unliteral(value)), codegen


def _call(n_arguments):
    """An intrinsic that calls a function of so many int64 by its address; it returns an int64."""

    @intrinsic
    def call(typingctx, address, arguments):
        def codegen(context, builder, sig, args):
            return _call_address(builder, args[0], cgutils.unpack_tuple(builder, args[1]))

        return types.int64(types.int64, types.UniTuple(types.int64, n_arguments)), codegen

    return call


def _call_address(builder, address, words):
    word = ir.IntType(64)
    function = ir.FunctionType(word, [word] * len(words))
    return builder.call(builder.inttoptr(address, function.as_pointer()), words)


#: ``call_kernel(address, (context, part, parts))`` -> status.
call_kernel = _call(3)
#: ``call_epilogue(address, (z, a, da, count, op))`` -> status.
call_epilogue = _call(5)
#: ``call_launch(address, (kernel, context, parts))`` -> status.
call_launch = _call(3)
#: ``call_loss(address, (y, a, da, losses, rows, n))`` and ``call_loss_alone(address, (rows,))``
#: -> status: a user's loss.
call_loss, call_loss_alone = _call(6), _call(1)


def _has_words_only(type_):
    if isinstance(type_, types.BaseTuple):
        return all(map(_has_words_only, type_))
    return isinstance(type_, Pointer) or type_ == types.int64


@intrinsic
def call_with_record(typingctx, address, record):
    """Call a function by its address, with the address of a named tuple on the stack.

    The function reads it as ``pointer[0]`` of a ``Pointer`` to its type. All fields, nested ones
    too, must be pointers or int64: anything else would have another layout.
    """
    if not _has_words_only(record):
        raise TypingError(f"not only pointers and int64: {record}")

    def codegen(context, builder, sig, args):
        place = cgutils.alloca_once(builder, args[1].type)
        builder.store(args[1], place)
        return _call_address(builder, args[0], [builder.ptrtoint(place, ir.IntType(64))])

    return types.int64(types.int64, record), codegen

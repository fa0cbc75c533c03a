"""The matrix product of every dense operation, after Goto and BLIS.

X W, Xt dZ and dZ Wt are calls of one function. It reads its left operand element by element, with
any strides, so X need not be transposed; its right operand and its result have contiguous rows.
Each element of the result is one chain of fused multiply-adds over ascending k, whichever
micro-kernel computes it. So a row of a forward pass has the same bits alone and in any batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba.core import types

from ...tables import KC, MC, NC_PANELS, NR_VECTORS, Split
from . import isa
from .context import pack_of, rows_of_part, share
from .kernels import subroutine, takes_record
from .memory import Pointer, call_with_record, reals
from .microkernel import Matrix, Strided, from_column, from_row, from_step, make_micro_kernel
from .vectors import vector_lanes

_COLUMNS = int(Split.columns)

#: Rows of the tallest micro-kernel.
MR = isa.mr()

#: Up to so many rows a micro-panel of b is used so briefly that the next one is prefetched
#: meanwhile, and the k-blocks have half the length.
PREFETCH_ROWS = 64

#: A result of more elements does not stay in L2, so the next tile of c is prefetched, unless a
#: micro-kernel has fewer steps of k and is done before the lines arrive.
L2_ELEMENTS, PREFETCH_DEPTH = 1 << 17, 128

#: Rows of a result that one call of the product computes, with one packed block of b.
BLOCK_ROWS = 1024

#: With fewer rows of a result, b is not packed.
PACKING_ROWS = 3 * MR

#: Vectors of an operand that leaves half of L1 to the result.
L1_VECTORS = (1 << 14) // isa.vector_bytes()

#: Vectors of half the size hold few columns at less cost: many processors with vectors of 64 bytes
#: multiply two of 32 at a time.
HAS_HALF = isa.vector_bytes() == 64

#: Vectors of the widest tile of a single row.
ROW_VECTORS = 4 if isa.vector_bytes() > 32 else 8

#: How a micro-panel reads its columns of b: in place; in place, packing them on the way, because
#: their rows lie far apart; or packed by the MC rows before.
IN_PLACE, PACKS, PACKED = 0, 1, 2


class Size(NamedTuple):
    """c is (rows, columns), a (rows, depth), b (depth, columns)."""

    rows: int
    depth: int
    columns: int


class PackedRows(NamedTuple):
    """The first rows of the left operand, packed by :func:`pack_rows`."""

    at: Any
    rows: int


class Mode(NamedTuple):
    """How the micro-panels of a block are computed."""

    adds: int  # 1: the sums are added to c
    b: int  # IN_PLACE, PACKS or PACKED
    prefetches_c: bool


class Product(NamedTuple):
    """The arguments of :func:`product`."""

    c: Matrix
    first: Matrix
    a: Strided
    b: Matrix
    size: Size
    adds: int
    pack: Any


class Upper(NamedTuple):
    """The arguments of :func:`product_upper`."""

    c: Matrix
    a: Strided
    b: Matrix
    size: Size
    diagonal: int
    zeros: Any
    pack: Any


def _types(real):
    """Numba's types of a pointer, a :class:`Matrix`, a :class:`Strided` and a :class:`Size`."""
    pointer, i = Pointer(real), types.int64
    matrix = types.NamedTuple((pointer, i), Matrix)
    strided = types.NamedTuple((pointer, i, i), Strided)
    return pointer, matrix, strided, types.NamedUniTuple(i, 3, Size)


def product_type(real):
    """Numba's type of a :class:`Product`."""
    pointer, matrix, strided, size = _types(real)
    return types.NamedTuple((matrix, matrix, strided, matrix, size, types.int64, pointer), Product)


def upper_type(real):
    """Numba's type of an :class:`Upper`."""
    pointer, matrix, strided, size = _types(real)
    return types.NamedTuple((matrix, strided, matrix, size, types.int64, pointer, pointer), Upper)


def make_micro_panel(n_vectors, masked=False):
    """The product for a micro-panel of two or more vectors, the last of which may be `masked`."""
    tall = make_micro_kernel(MR, n_vectors, masked, prefetches=True)
    packing = make_micro_kernel(MR, n_vectors, masked, packs=True)
    four, two, one = (make_micro_kernel(rows, n_vectors, masked) for rows in (4, 2, 1))
    has_four = MR > 4

    def micro_panel(c, first, a, a_packed, b, size, mode, pack):
        """c = first + a b for up to MC rows and KC steps; `pack` is the packed micro-panel of b."""
        n = vector_lanes(pack)
        group = max(n, MR)
        rows, depth, columns = size
        next_b = b if masked else from_column(b, n_vectors * n)
        next_row = b.row
        if mode.b == PACKED:
            b = Matrix(pack, n_vectors * n)
        # Together the micro-kernels prefetch the next micro-panel once, packed or in place.
        share_of_next = n_vectors * n * MR // rows
        i = 0
        while i + MR <= rows:
            ci, fi, ai = from_row(c, i), from_row(first, i), from_row(a, i)
            if i < a_packed.rows:
                ai = Strided(a_packed.at + (i // group * KC * group + i % group), 1, group)
            next_c = ci.at
            if mode.prefetches_c:
                next_c = ci.at + MR * c.row if i + 2 * MR <= rows else c.at + n_vectors * n
            if mode.b == PACKS and i == 0:
                packing(ci, fi, ai, b, depth, columns, mode.adds, Matrix(pack, 0), next_c)
                b = Matrix(pack, n_vectors * n)
            else:
                if mode.b == PACKED:
                    ahead = pack + (n_vectors * n * KC + i // MR * depth * share_of_next)
                    other = Matrix(ahead, share_of_next)
                else:
                    other = Matrix(next_b.at + i // MR % n_vectors * n, next_row)
                tall(ci, fi, ai, b, depth, columns, mode.adds, other, next_c)
                if i >= n_vectors * MR:
                    next_row = 0
            i += MR
        while i < rows:
            ci, fi, ai = from_row(c, i), from_row(first, i), from_row(a, i)
            if has_four and rows - i >= 4:
                four(ci, fi, ai, b, depth, columns, mode.adds, b, ci.at)
                i += 4
            elif rows - i >= 2:
                two(ci, fi, ai, b, depth, columns, mode.adds, b, ci.at)
                i += 2
            else:
                one(ci, fi, ai, b, depth, columns, mode.adds, b, ci.at)
                i += 1

    return subroutine(micro_panel)


def make_narrow_panel(half=False):
    """The product for a micro-panel of one vector or part of one, or with `half` of half a vector.

    A tile of fewer than four rows waits for its sums, so the last rows are split into tiles of at
    least so many where this is possible: 9 rows into 5 and 4, 15 into three times 5.
    """
    eight, six, five, four, two, one = (
        make_micro_kernel(rows, 1, masked=True, half=half) for rows in (8, 6, 5, 4, 2, 1)
    )

    def narrow_panel(c, first, a, a_packed, b, size, mode, pack):
        """c = first + a b for up to MC rows and KC steps; packs nothing."""
        rows, depth, columns = size
        adds = mode.adds
        i = 0
        while i < rows:
            ci, fi, ai = from_row(c, i), from_row(first, i), from_row(a, i)
            left = rows - i
            if left == 8 or (left >= 12 and left != 15):
                eight(ci, fi, ai, b, depth, columns, adds, b, ci.at)
                i += 8
            elif left == 6 or left == 11:
                six(ci, fi, ai, b, depth, columns, adds, b, ci.at)
                i += 6
            elif left >= 5:
                five(ci, fi, ai, b, depth, columns, adds, b, ci.at)
                i += 5
            elif left == 4:
                four(ci, fi, ai, b, depth, columns, adds, b, ci.at)
                i += 4
            elif left >= 2:
                two(ci, fi, ai, b, depth, columns, adds, b, ci.at)
                i += 2
            else:
                one(ci, fi, ai, b, depth, columns, adds, b, ci.at)
                i += 1

    return subroutine(narrow_panel)


_panel_3, _panel_2, _panel_1 = make_micro_panel(3), make_micro_panel(2), make_narrow_panel()
_edge_panel = make_narrow_panel(half=True) if HAS_HALF else make_micro_panel(2, masked=True)
_row_kernel = make_micro_kernel(1, ROW_VECTORS)

#: The micro-panel at the edge of b: half a vector, or two vectors of which the last is masked.
_EDGE = 0


@subroutine
def panel_vectors(n, columns):
    """Vectors of the next micro-panel of n lanes each, or _EDGE.

    As few tiles as possible have one vector, since these wait for their loads and sums.
    """
    if HAS_HALF:
        if columns >= 3 * n and columns != 4 * n:
            return 3
        if columns >= 2 * n:
            return 2
        return 1 if columns > n // 2 else _EDGE
    vectors = (columns + n - 1) // n
    if vectors == 3 or vectors == 6:
        return 3 if columns % n == 0 else 2
    if vectors >= 5:
        return 3
    if columns >= 2 * n:
        return 2
    return 1 if columns <= n else _EDGE


@subroutine
def l1_elements(pointer):
    """Elements of an operand that leaves half of L1 to the result."""
    return L1_VECTORS * vector_lanes(pointer)


@subroutine
def whole_lanes(pointer, n):
    """The lanes that tiles of n columns take."""
    step = vector_lanes(pointer) // 2 if HAS_HALF else vector_lanes(pointer)
    return (n + step - 1) // step * step


@subroutine
def pack_rows(to, a, rows, depth, group):
    """Pack `rows` rows of a, whose rows are 1 apart, into micro-panels of `group` rows.

    to[i*KC + k*group + r] = a[i + r, k] for i = 0, group, ..., r < group, k < depth.
    """
    i = 0
    while i < rows:
        source, out = a.at + i, to + i * KC
        for k in range(depth):
            for r in range(group):
                out[k * group + r] = source[k * a.step + r]
        i += group


@subroutine
def multiply_panels(c, first, a, a_packed, b, size, mode, pack):
    """c = first + a b for up to MC rows and KC steps, with all micro-panels of b."""
    n = vector_lanes(pack)
    j = 0
    while j < size.columns:
        cj, fj, bj = from_column(c, j), from_column(first, j), from_column(b, j)
        panel, to = Size(size.rows, size.depth, size.columns - j), pack + j * KC
        vectors = panel_vectors(n, panel.columns)
        if size.rows == 1 and panel.columns >= ROW_VECTORS * n:
            _row_kernel(cj, fj, a, bj, size.depth, n, mode.adds, bj, cj.at)
            vectors = ROW_VECTORS
        elif vectors == 3:
            _panel_3(cj, fj, a, a_packed, bj, panel, mode, to)
        elif vectors == 2:
            _panel_2(cj, fj, a, a_packed, bj, panel, mode, to)
        elif vectors == 1:
            _panel_1(cj, fj, a, a_packed, bj, panel, mode, to)
        else:
            _edge_panel(cj, fj, a, a_packed, bj, panel, mode, to)
            vectors = 2
        j += vectors * n


@takes_record(product_type)
def product(record):
    """c[i, j] = first[i, j] + sum over k of a[i, k] b[k, j], for all i, k, j of `size`.

    The sum is a chain over ascending k that starts from `first`. If `adds` is 1, its end is
    added to c; then the depth is KC at most.

    a     one of its strides is 1
    pack  PACK_BYTES of room; there are NC_PANELS micro-panels of columns at most
    Reads a, b, first and c; writes c and pack; c may overlap first, but not a or b.
    """
    c, first, a, b, size, adds, pack = record[0]
    rows, depth, columns = size
    n = vector_lanes(pack)
    group, nr = max(n, MR), NR_VECTORS * n
    a_pack = pack + KC * NC_PANELS * nr
    packs_a = columns >= 4 * nr and a.step != 1
    packs_b = rows >= PACKING_ROWS and b.row > nr and depth * columns > l1_elements(pack)
    prefetches_c = rows * c.row > L2_ELEMENTS and depth >= PREFETCH_DEPTH
    block = KC // 2 if rows <= PREFETCH_ROWS and adds == 0 else KC
    k = 0
    while k == 0 or k < depth:
        kc = min(block, depth - k)
        i = 0
        while i < rows:
            mc = min(MC, rows - i)
            ci, fi, ai = from_row(c, i), from_row(first, i), from_step(from_row(a, i), k)
            a_packed = PackedRows(a_pack, mc // group * group if packs_a else 0)
            pack_rows(a_pack, ai, a_packed.rows, kc, group)
            # A single row is multiplied by wider micro-panels, which no block before has packed.
            b_mode = IN_PLACE if not packs_b or mc == 1 else (PACKS if i == 0 else PACKED)
            mode = Mode(adds, b_mode, prefetches_c)
            multiply_panels(ci, fi, ai, a_packed, from_row(b, k), Size(mc, kc, columns), mode, pack)
            i += mc
        first = c
        k += block
    return 0


@subroutine
def multiply(ctx, part, c, first, a, b, size, adds):
    """Call :func:`product` by its address, so that it is compiled once and not in every kernel."""
    pack = reals(ctx, pack_of(ctx, part))
    return call_with_record(ctx.product, Product(c, first, a, b, size, adds, pack))


@takes_record(upper_type)
def product_upper(record):
    """The part of :func:`product` on and above the diagonal of a matrix.

    Column number `diagonal` of the matrix is column 0 of c. The same bits as those of product for
    i < diagonal + j // NR * NR + NR, and no other element.
    """
    c, a, b, size, diagonal, zeros, pack = record[0]
    rows, depth, columns = size
    n = vector_lanes(pack)
    group, nr = max(n, MR), NR_VECTORS * n
    a_pack = pack + KC * NC_PANELS * nr
    packs_a = columns >= nr and a.step != 1
    packs_b = rows >= PACKING_ROWS and b.row > nr and depth * columns > l1_elements(pack)
    first = Matrix(zeros, 0)
    k = 0
    while k == 0 or k < depth:
        kc = min(KC, depth - k)
        i = 0
        while i < rows and i < diagonal + columns:
            mc = min(MC, rows - i)
            ci, fi, ai = from_row(c, i), from_row(first, i), from_step(from_row(a, i), k)
            a_packed = PackedRows(a_pack, mc // group * group if packs_a else 0)
            pack_rows(a_pack, ai, a_packed.rows, kc, group)
            mode = Mode(0, IN_PLACE if not packs_b else (PACKS if i == 0 else PACKED), False)
            j = max(0, i - diagonal) // nr * nr
            while j < columns:
                some = Size(min(mc, diagonal + j + nr - i), kc, min(nr, columns - j))
                multiply_panels(
                    from_column(ci, j), from_column(fi, j), ai, a_packed,
                    from_column(from_row(b, k), j), some, mode, pack + j * KC,
                )  # fmt: skip
                j += nr
            i += mc
        first = c
        k += KC
    return 0


@subroutine
def multiply_upper(ctx, part, c, a, b, size, diagonal):
    """Call :func:`product_upper` by its address."""
    pack, zeros = reals(ctx, pack_of(ctx, part)), reals(ctx, ctx.zeros)
    return call_with_record(ctx.product_upper, Upper(c, a, b, size, diagonal, zeros, pack))


@subroutine
def block_columns(pointer):
    """NC: columns of a block of a result."""
    return NC_PANELS * NR_VECTORS * vector_lanes(pointer)


class Area(NamedTuple):
    """Rows i, ..., i_end-1 and columns j, ..., j_end-1 of a matrix."""

    i: int
    i_end: int
    j: int
    j_end: int


@subroutine
def columns_of_part(ctx, columns, part, parts):
    """(begin, end): the columns of a matrix that belong to a part."""
    n = vector_lanes(reals(ctx, ctx.params))
    nr = NR_VECTORS * n
    return share(columns, nr if columns >= 8 * nr * parts else n, part, parts)


@subroutine
def block_of_part(ctx, rows, columns, part, parts):
    """The Area of a matrix (rows, columns) that a part computes.

    Some columns, if the call is split by them, so that one part alone touches an element of b; else
    some rows, or if there are too few of these, columns.
    """
    if ctx.split == _COLUMNS or rows < MR * parts:
        j, j_end = columns_of_part(ctx, columns, part, parts)
        return Area(0, rows, j, j_end)
    i, i_end = share(rows, MR, part, parts)
    return Area(i, i_end, 0, columns)


@subroutine
def rows_or_columns(ctx, columns, part, parts):
    """The Area of a value (m, columns) that a part computes: rows or columns, as the call says."""
    if ctx.split == _COLUMNS:
        j, j_end = columns_of_part(ctx, columns, part, parts)
        return Area(0, ctx.m, j, j_end)
    i, i_end = rows_of_part(ctx, part, parts)
    return Area(i, i_end, 0, columns)

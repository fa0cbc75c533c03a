"""The tables that engines execute: codes, and the layout of rows, calls and contexts.

Every field is 8 bytes wide, so that the NumPy records below, the structures that the Numba
leaves read and a C struct agree without padding. Engines know these tables and arrays; layers,
losses and optimizers are lowered to them in :mod:`fastnn.plan`.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Op(IntEnum):
    """What a row of the plan does."""

    DENSE = 1
    ACTIVATION = 2
    SOFTMAX = 3
    LOSS = 4


class Act(IntEnum):
    """Activation of a row; the names are the public ones. Softmax becomes a row of its own."""

    identity = 0
    step = 1
    sigmoid = 2
    tanh = 3
    relu = 4
    leaky_relu = 5
    elu = 6
    selu = 7
    gelu = 8
    silu = 9
    softplus = 10
    mish = 11
    softmax = 12


class Loss(IntEnum):
    """Loss head; the names are the public ones."""

    mse = 0
    sse = 1
    binary_cross_entropy = 2
    cross_entropy = 3


#: Activations whose derivative needs z; those of the others follow from a, which replaces z.
NEEDS_Z = frozenset({Act.gelu, Act.silu, Act.softplus, Act.mish})


class Rule(IntEnum):
    """Optimizer step on the flat vectors."""

    sgd = 0
    momentum = 1
    nesterov = 2
    adam = 3


#: Flat vectors beside the parameters that each rule keeps.
SLOTS = {Rule.sgd: 0, Rule.momentum: 1, Rule.nesterov: 1, Rule.adam: 2}

#: Columns of the array with one row of hyperparameters per step (see ``optimizers.py``).
HYPER_COLUMNS = 4

#: In an offset field: there is no such buffer.
NONE = -1
#: In field ``x``: the row reads the batch itself.
INPUT = -2

#: One operation of the plan. Offsets into the workspace (x, z, a, da) count elements per sample:
#: the buffer of a row starts at ``offset * capacity``, so one plan serves any batch size.
#: Offsets w and b point into the flat parameter vector and, alike, into the flat gradient.
ROW = np.dtype(
    [
        ("op", "i8"),  # Op
        ("code", "i8"),  # Act of a dense or activation row, Loss of the head
        ("n_in", "i8"),  # columns read
        ("n_out", "i8"),  # columns written
        ("x", "i8"),  # input (m, n_in), or INPUT
        ("z", "i8"),  # before the activation (m, n_out); equals `a` where it need not be kept
        ("a", "i8"),  # after the activation (m, n_out)
        ("da", "i8"),  # dC/da (m, n_out), turned into dC/dz by whoever writes it
        ("dx", "i8"),  # dC/dx (m, n_in), the `da` of row `below`; NONE at the bottom
        ("below", "i8"),  # the row whose output this row reads, or NONE
        ("w", "i8"),  # weights (n_in, n_out), or NONE
        ("b", "i8"),  # biases (n_out,), or NONE
        ("state", "i8"),  # running statistics in the flat state vector, or NONE
        ("scratch", "i8"),  # elements in the part of the workspace that no sample scales
        ("arg0", "f8"),  # argument of the activation; label smoothing of the head
        ("arg1", "f8"),  # l1 penalty of a dense row
        ("arg2", "f8"),  # l2 penalty of a dense row
        ("arg3", "f8"),  # free
    ]
)

#: One entry of a bound program: call `leaf` for `row`, split by its cost.
CALL = np.dtype(
    [
        ("leaf", "u8"),  # address: (context, part, parts) -> status
        ("inner", "u8"),  # address of the elementwise epilogue called per tile, or 0
        ("row", "i8"),  # index of the plan's row
        ("fixed", "f8"),  # cost of the call in arithmetic operations ...
        ("per_row", "f8"),  # ... and what each row of the batch adds
    ]
)

#: Everything that leaves see. The driver sets the first two groups, Python the rest.
CONTEXT = np.dtype(
    [
        # per call of a leaf
        ("row", "u8"),  # address of the plan row
        ("inner", "u8"),
        # per batch
        ("input", "u8"),  # (m, n_inputs)
        ("start", "i8"),  # first row of the batch
        ("m", "i8"),  # rows of the batch
        ("scale", "f8"),  # factor of the gradient: 1/(sum of weights) for means, 1 for sums
        ("mass", "f8"),  # sum of the batch's weights: m without weights
        # the model
        ("rows", "u8"),
        ("params", "u8"),
        ("grad", "u8"),
        ("slots", "u8"),
        ("n_params", "i8"),
        ("n_inputs", "i8"),
        ("n_outputs", "i8"),
        ("mean", "i8"),  # 1: the loss is a mean over rows, 0: a sum
        # the workspace
        ("work", "u8"),
        ("capacity", "i8"),  # rows it can hold
        ("gather", "i8"),  # per-sample offset of the gathered batch
        ("target", "i8"),  # per-sample offset of the batch's targets (m, n_outputs)
        ("scratch", "u8"),
        ("row_loss", "u8"),  # (capacity,) float64
        ("row_hit", "u8"),  # (capacity,) float64
        ("row_weight", "u8"),  # (capacity,) float64: the batch's weights, if there are any
        ("penalties", "u8"),  # (widest n_in,) float64: penalty of each row of W
        # per call of the driver: CALL_FIELDS
        ("hyper", "u8"),  # (HYPER_COLUMNS,) float64 of this step
        ("result", "u8"),  # (2,) float64 of this batch: sum of losses, number of hits
        ("X", "u8"),  # (n_samples, n_inputs), of a type in FEATURE_TYPES
        ("Y", "u8"),  # (n_samples, n_outputs), or 0
        ("labels", "u8"),  # (n_samples,) int32, or 0
        ("weights", "u8"),  # (n_samples,) float64: weights of the rows, or 0
        ("order", "u8"),  # (n_samples,) int64: the shuffled order, or 0
        ("out", "u8"),  # (n_samples, n_outputs) results of a forward pass, or 0
        ("source", "i8"),  # per-sample offset that is copied to `out`
        ("n_samples", "i8"),
        ("batch_size", "i8"),
        ("gathers", "i8"),  # 1: each batch is gathered, 0: it is read where it lies in X
        ("input_scale", "f8"),  # factor of every element of X
        ("pack", "u8"),  # PACK_BYTES for each part, for panels of a product
        ("launch", "u8"),  # address of the parallel launcher, or 0 for a plain loop
        ("parts", "i8"),  # most parts a call is split into
        ("grain", "f8"),  # arithmetic operations that are worth a part
        # the machine
        ("one", "u8"),  # address of the number 1 in the network's type
        ("zeros", "u8"),  # address of MOST_COLUMNS zeros in the network's type
        ("product", "u8"),  # address of the matrix product
        ("ran", "u8"),  # (MOST_PARTS,) int64: how often each part has run
        ("statuses", "u8"),  # (MOST_PARTS,) int64: what each part returned
        ("ran_on", "u8"),  # (MOST_PARTS,) int64: the thread of the pool that ran it last
    ]
)

#: The fields of CONTEXT that Python sets for every call of the driver, one after another.
CALL_FIELDS = (
    "hyper", "result", "X", "Y", "labels", "weights", "order", "out", "source", "n_samples",
    "batch_size", "gathers", "input_scale", "pack", "launch", "parts", "grain",
)  # fmt: skip

#: The types of X that engines read themselves. What differs from the network's type, or must be
#: scaled, is converted as each batch is gathered.
FEATURE_TYPES = tuple(
    np.dtype(name)
    for name in (
        "float32", "float64", "float16", "bool",
        "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    )
)  # fmt: skip

#: A product passes over its result after so many steps of k; so many rows of a batch are summed in
#: one chain, which is a rule for the bits.
DEPTH = 512

#: The block of columns that one call of a product computes: panels, and vectors of each.
BLOCK_PANELS, PANEL_VECTORS = 16, 3

#: Rows of a and of the result that meet every panel of a block of b before the next rows do, so
#: that they stay in the second cache.
NEAR_ROWS = 128

#: Bytes that a part may use: for a block of b and for rows of a, copied together.
PACK_BYTES = DEPTH * BLOCK_PANELS * PANEL_VECTORS * 64 + NEAR_ROWS * DEPTH * 8

#: Columns of the widest block of a product, whose vectors have 64 bytes at most.
MOST_COLUMNS = BLOCK_PANELS * PANEL_VECTORS * 16

#: With so few outputs a dense row adds its products over k in 16 lanes: a rule for the bits of z.
FEW_OUTPUTS = 4

#: dW of a layer with at most so many weights is summed in slabs of at least so many rows of the
#: batch, and at most so many slabs.
SLAB_WEIGHTS, SLAB_ROWS, MOST_SLABS = 1 << 14, 2048, 32

#: More parts than this are never made.
MOST_PARTS = 256


class Status(IntEnum):
    """What a leaf returns; anything but OK stops the run."""

    OK = 0
    NOT_FINITE = 1  # the batch's loss is infinite or not a number
    BAD_CALL = 2  # a leaf was bound to a row it cannot execute

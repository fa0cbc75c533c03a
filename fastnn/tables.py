"""The tables that engines execute: codes, and the layout of operations, calls and contexts.

Every field is 8 bytes wide, so that the NumPy records below, the structures that the Numba
kernels read and the C structs agree without padding. They are the contract between the plan and
the engines: :mod:`fastnn.plan` and :mod:`fastnn.ops` fill them, engines read them.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Act(IntEnum):
    """Elementwise activations, and softmax; the names are the public ones."""

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
    """Losses; the names are the public ones."""

    mse = 0
    sse = 1
    binary_cross_entropy = 2
    cross_entropy = 3
    mae = 4
    huber = 5
    quantile = 6
    poisson = 7
    hinge = 8
    squared_hinge = 9
    focal = 10
    gaussian_nll = 11
    custom = 12  # a user's function
    squared_error = 13


class Rule(IntEnum):
    """Optimizer step on the flat vectors."""

    sgd = 0
    momentum = 1
    nesterov = 2
    adam = 3
    amsgrad = 4
    adagrad = 5
    rmsprop = 6
    rmsprop_momentum = 7
    rmsprop_centered = 8
    rmsprop_centered_momentum = 9
    nadam = 10
    adadelta = 11
    radam = 12
    lion = 13
    muon = 14  # its elementwise part is adam


#: Number of flat vectors that each rule keeps besides the parameters.
SLOTS = {
    Rule.sgd: 0,
    Rule.momentum: 1,
    Rule.nesterov: 1,
    Rule.adam: 2,
    Rule.amsgrad: 3,
    Rule.adagrad: 1,
    Rule.rmsprop: 1,
    Rule.rmsprop_momentum: 2,
    Rule.rmsprop_centered: 2,
    Rule.rmsprop_centered_momentum: 3,
    Rule.nadam: 2,
    Rule.adadelta: 2,
    Rule.radam: 2,
    Rule.lion: 1,
    Rule.muon: 2,
}

#: The first columns of the array with one row of hyperparameters per step, for every rule:
#: `coupled` times the weights is added to their gradient, `decoupled` times the weights is
#: subtracted from them; `clip` is the largest norm or absolute value of the gradient; `average` is
#: the share of the parameters in their average after the step, 0 if it does not count this step.
COMMON = ("lr", "coupled", "decoupled", "clip", "average")

#: All columns, for each rule.
HYPER = {
    Rule.sgd: COMMON,
    Rule.momentum: (*COMMON, "momentum"),
    Rule.nesterov: (*COMMON, "momentum"),
    Rule.adam: (*COMMON, "epsilon", "beta1", "beta2"),
    Rule.amsgrad: (*COMMON, "epsilon", "beta1", "beta2"),
    Rule.adagrad: (*COMMON, "epsilon"),
    Rule.rmsprop: (*COMMON, "rho", "inside", "outside"),
    Rule.rmsprop_momentum: (*COMMON, "rho", "inside", "outside", "momentum"),
    Rule.rmsprop_centered: (*COMMON, "rho", "inside", "outside"),
    Rule.rmsprop_centered_momentum: (*COMMON, "rho", "inside", "outside", "momentum"),
    Rule.nadam: (*COMMON, "epsilon", "beta1", "beta2", "now", "next"),
    Rule.adadelta: (*COMMON, "epsilon", "rho"),
    Rule.radam: (*COMMON, "epsilon", "beta1", "beta2", "plain", "adaptive"),
    Rule.lion: (*COMMON, "beta1", "beta2"),
    # Adam's columns, for the parameters that are no hidden matrices. The buffer of a matrix becomes
    # momentum M + (1 - momentum) G; its direction is of_gradient G + of_momentum M, orthogonalised,
    # where orthogonalises is 1, else the last one.
    Rule.muon: (
        *COMMON, "epsilon", "beta1", "beta2",
        "matrix_lr", "matrix_decoupled", "momentum", "of_gradient", "of_momentum", "orthogonalises",
    ),
}  # fmt: skip

#: One range of the flat vector whose parameters an optimizer treats alike. The ranges ascend; what
#: none of them covers is frozen.
GROUP = np.dtype(
    [
        ("begin", "i8"),
        ("end", "i8"),
        ("rate", "f8"),  # factor of the learning rate
        ("decay", "f8"),  # factor of the weight decay
    ]
)

#: Elements of a block of the gradient whose squares are summed before the blocks are, for its norm.
#: Changing it changes results bitwise.
NORM_BLOCK = 4096

#: Most Newton-Schulz steps of an orthogonalisation.
MOST_TURNS = 10

#: Value of an offset or index field: none.
NONE = -1
#: Value of the field ``x`` or ``x2``: the operation reads the batch itself.
INPUT = -2

#: One operation of the plan. Offsets of values and gradients count elements per sample: a buffer
#: starts at ``offset * capacity``, so one plan serves any batch size. ``w`` and ``b`` point into
#: the flat parameter vector and, alike, into the flat gradient.
#:
#: If several operations read a value, the first one that the backward pass reaches overwrites its
#: gradient and the others add to it; the call of the last one has the epilogue that applies the
#: derivative of the activation of the operation below.
OP = np.dtype(
    [
        ("kind", "i8"),  # code of the operation (its home in fastnn/ops)
        ("code", "i8"),  # Act of the epilogue, or Loss of the head
        ("n_in", "i8"),  # columns read
        ("n_out", "i8"),  # columns written
        ("x", "i8"),  # first value read (m, n_in), or INPUT
        ("x2", "i8"),  # second value read (m, n_in), INPUT or NONE
        ("z", "i8"),  # before the activation (m, n_out); equals `a` where it need not be kept
        ("a", "i8"),  # after the activation (m, n_out)
        ("saved", "i8"),  # per-sample elements left for the backward pass, or NONE
        ("da", "i8"),  # dC/da (m, n_out), turned into dC/dz by its last writer; or NONE
        ("dx", "i8"),  # dC/dx (m, n_in), the `da` of operation `below`; NONE if not needed
        ("dx2", "i8"),  # dC/dx2 (m, n_in), the `da` of operation `below2`; NONE if not needed
        ("adds", "i8"),  # 1: dx is added to, 0: overwritten
        ("adds2", "i8"),  # 1: dx2 is added to, 0: overwritten
        ("below", "i8"),  # index of the operation whose output is x, or NONE for INPUT
        ("below2", "i8"),  # index of the operation whose output is x2, or NONE
        ("fold", "i8"),  # index of the operation that is computed together with it, or NONE
        ("w", "i8"),  # first parameter: weights (n_in, n_out), slopes; or NONE
        ("b", "i8"),  # second parameter: biases (n_out,); or NONE
        ("state", "i8"),  # running statistics in the flat state vector, or NONE
        ("batch", "i8"),  # float64 elements in the per-batch space, or NONE
        ("scratch", "i8"),  # elements in the scratch space, or NONE
        ("constants", "i8"),  # first of its numbers in the plan's constants, or NONE
        ("arg0", "f8"),  # argument of the activation or the loss; label smoothing
        ("arg1", "f8"),  # l1 penalty; epsilon of a normalisation
        ("arg2", "f8"),  # l2 penalty; momentum of running statistics
        ("arg3", "f8"),  # 1: what is folded in follows the activation; the user's loss is Python's
        ("hyper", "i8"),  # its own hyperparameter of a step, counted from the end; or NONE
        ("stream", "i8"),  # the stream of its random numbers, or NONE
    ]
)


class Split(IntEnum):
    """How the parts of a call share its work."""

    rows = 0  # rows of the batch
    columns = 1  # columns of the result
    blocks = 2  # whatever the kernel chooses
    alone = 3  # not at all: the first thread runs it in one part
    each = 4  # not at all: every thread runs it, and writes to its own context


#: One entry of a bound program: call `kernel` for operation `op`.
CALL = np.dtype(
    [
        ("kernel", "u8"),  # address: (context, part, parts) -> status
        ("inner", "u8"),  # address of the elementwise epilogue called per tile, or 0
        ("op", "i8"),  # index of the operation
        ("split", "i8"),  # a Split
        ("meets", "i8"),  # 1: the threads meet before it, since data cross between them
    ]
)

#: Everything that kernels see. Each thread has its own copy, in which the driver sets the first two
#: groups; Python sets the rest.
CONTEXT = np.dtype(
    [
        # per call of a kernel
        ("op", "u8"),  # address of the operation
        ("inner", "u8"),
        ("split", "i8"),
        # per batch
        ("input", "u8"),  # (m, n_inputs)
        ("start", "i8"),  # first row of the batch
        ("m", "i8"),  # rows of the batch
        ("weight_sum", "f8"),  # sum of the batch's weights: m without weights
        ("scale", "f8"),  # factor of the gradient: 1 / weight_sum for means, 1 for sums
        ("penalty_scale", "f8"),  # factor of the penalties in the gradient: see begin_batch
        # the model
        ("ops", "u8"),
        ("params", "u8"),
        ("grad", "u8"),
        ("slots", "u8"),
        ("state", "u8"),
        ("constants", "u8"),  # float64: numbers of operations that do not fit their arguments
        ("n_params", "i8"),
        ("n_state", "i8"),
        ("n_inputs", "i8"),
        ("n_outputs", "i8"),
        ("mean", "i8"),  # 1: the loss is a mean over rows, 0: a sum
        ("penalty_is_row", "i8"),  # 1: the penalties of a batch count like one more row of weight 1
        ("user_loss", "u8"),  # address of a user's loss (custom_loss.h), or 0
        # the optimizer
        ("groups", "u8"),  # entries of GROUP
        ("n_groups", "i8"),
        ("n_matrices", "i8"),  # further entries: matrices with a rule of their own
        ("norms", "i8"),  # per-batch offset of the sums of squares of the gradient, or NONE
        ("average", "u8"),  # averages of the parameters, then of the statistics; or 0
        # the workspace
        ("work", "u8"),
        ("capacity", "i8"),  # most rows of a batch
        ("gathered", "i8"),  # per-sample offset of the gathered batch
        ("targets", "i8"),  # per-sample offset of the batch's targets (m, n_outputs)
        ("batch", "u8"),  # the per-batch space, float64
        ("scratch", "u8"),
        ("row_loss", "u8"),  # (capacity,) float64
        ("row_correct", "u8"),  # (capacity,) float64
        # per call of the driver: CALL_FIELDS
        ("hyper", "u8"),  # (hyper_columns,) float64 of this step: first the rule's; or 0
        ("hyper_columns", "i8"),
        ("result", "u8"),  # (2,) float64 of this batch: sum of losses, n_correct
        ("X", "u8"),  # (n_samples, n_inputs), of a type in FEATURE_TYPES; sparse: stored values
        ("indices", "u8"),  # (n_stored,): the column of each stored value of a sparse X, or 0
        ("indptr", "u8"),  # (n_samples + 1,): where the stored values of each row begin, or 0
        ("n_stored", "i8"),  # stored values of a sparse X
        ("Y", "u8"),  # (n_samples, n_outputs), or 0
        ("labels", "u8"),  # (n_samples,) int32, or 0
        ("weights", "u8"),  # (n_samples,) float64: weights of the rows, or 0
        ("order", "u8"),  # (n_rows,) int64: numbers of rows of X, or 0
        ("out", "u8"),  # (n_rows, n_outputs) results of a forward pass, or 0
        ("output", "i8"),  # per-sample offset that is copied to `out` and compared with targets
        ("n_samples", "i8"),  # rows of X
        ("n_rows", "i8"),  # rows to run on: entries of the order, or n_samples
        ("epoch_rows", "i8"),  # rows of an epoch; the order may hold several, one after another
        ("batch_size", "i8"),
        ("gathers", "i8"),  # 1: each batch is gathered, 0: it is read in place in X
        ("input_scale", "f8"),  # factor of every element of X
        ("accumulates", "i8"),  # 1: the batches are pieces of one, whose gradient is their sum
        ("total_weight", "f8"),  # weight_sum of all pieces, where they accumulate ...
        ("total_penalty", "f8"),  # ... and their penalty_scale
        ("seed", "i8"),  # of the network
        ("step", "i8"),  # number of the step, from 0 over the whole training
        ("training", "i8"),  # 1: a training program, 0: prediction or evaluation
        ("pack", "u8"),  # PACK_BYTES for each part: the packing buffers
        ("launch", "u8"),  # address of the launcher, or 0 for one thread
        ("threads", "i8"),  # threads to launch; afterwards, those that ran
        ("parts", "i8"),  # parts of each call that is split
        # set by the driver, for all threads
        ("calls", "u8"),  # the program: n_calls entries of CALL ...
        ("n_calls", "i8"),
        ("first", "i8"),  # ... and the batches to run it on: first, ..., last-1
        ("last", "i8"),
        # the machine
        ("one", "u8"),  # address of the number 1 in the network's type
        ("zeros", "u8"),  # address of MAX_NC zeros in the network's type
        ("product", "u8"),  # address of the matrix product, ...
        ("product_upper", "u8"),  # ... of its upper triangle, or 0 where no call needs it, ...
        ("transpose", "u8"),  # ... and of the transpose, for kernels that are compiled apart
        ("walk", "u8"),  # address of the function that every thread of a run calls
        ("team", "u8"),  # (TEAM_WORDS,) int64: where the threads of a run meet
        ("yields", "u8"),  # address of a function that gives the core away, or 0
        ("ran", "u8"),  # (MOST_PARTS,) int64: how many split calls each part has run
        ("ran_on", "u8"),  # (MOST_PARTS,) int64: the thread that ran it last; -1: the only one
    ]
)

#: The fields of CONTEXT that Python sets for every call of the driver, one after another.
CALL_FIELDS = (
    "hyper", "hyper_columns", "result", "X", "indices", "indptr", "n_stored", "Y", "labels",
    "weights", "order", "out", "output", "n_samples", "n_rows", "epoch_rows", "batch_size",
    "gathers", "input_scale", "accumulates", "total_weight", "total_penalty", "seed", "step",
    "training", "pack", "launch", "threads", "parts",
)  # fmt: skip

#: The dtypes of X that engines read. X of another dtype than the network's, or with a scale, is
#: converted as each batch is gathered.
FEATURE_TYPES = tuple(
    np.dtype(name)
    for name in (
        "float32", "float64", "float16", "bool",
        "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    )
)  # fmt: skip

#: The types of the stored values of a sparse X, and of its indices.
STORED_TYPES = tuple(np.dtype(name) for name in ("float32", "float64"))
INDEX_TYPES = tuple(np.dtype(name) for name in ("int32", "int64"))

#: Length of a k-block of a product, and of a block of rows in a sum over a batch. Changing it
#: changes results bitwise.
KC = 512

#: A block of the right operand is NC columns wide: NC_PANELS micro-panels of NR_VECTORS vectors.
NC_PANELS, NR_VECTORS = 16, 3

#: Rows of a block of the left operand, which stays in L2 while it is multiplied by every
#: micro-panel.
MC = 128

#: Bytes of a part's packing buffers: for a block of the right operand, and for MC rows of the left.
PACK_BYTES = KC * NC_PANELS * NR_VECTORS * 64 + MC * KC * 8

#: Columns of the widest NC block, whose vectors have 64 bytes at most.
MAX_NC = NC_PANELS * NR_VECTORS * 16

#: A dense operation with at most FEW_OUTPUTS outputs sums over k in 16 lanes. Changing it changes
#: results bitwise.
FEW_OUTPUTS = 4

#: dW of an operation with at most SLAB_WEIGHTS weights is summed in at most MOST_SLABS slabs of at
#: least SLAB_ROWS rows. Changing them changes results bitwise.
SLAB_WEIGHTS, SLAB_ROWS, MOST_SLABS = 1 << 14, 2048, 32

#: Most parts of a call, and most threads of a run.
MOST_PARTS = 256

#: Words of the record where the threads of a run meet: its fields lie TEAM_STEP words apart, each
#: in a cache line of its own, and the next one free for prefetchers.
TEAM_WORDS, TEAM_STEP = 112, 16


class Status(IntEnum):
    """What a kernel returns; the largest of its parts. Anything but OK stops the run."""

    OK = 0
    NOT_FINITE = 1  # the batch's loss is infinite or not a number
    BAD_CALL = 2  # a kernel was bound to an operation that it cannot execute
    BAD_INDEX = 3  # a label, an entry of the order or an index of a sparse X is out of range
    STOPPED = 4  # a user's function raised an exception

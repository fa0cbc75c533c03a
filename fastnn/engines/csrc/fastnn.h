/* The tables that engines execute: the records, codes and sizes of fastnn/tables.py in C.

   Every field is 8 bytes wide, so that the NumPy records and these structs agree without padding.
   The lists of fields are macros: the module hands names and offsets to Python, where a test
   compares them with tables.py. */

#ifndef FASTNN_H
#define FASTNN_H

#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(void *) == 8 && sizeof(double) == 8, "fields are 8 bytes wide");

/* One operation of the plan. Offsets of values and gradients count elements per sample: a buffer
   starts at offset * capacity. w and b point into the flat parameter vector and, alike, into the
   flat gradient. */
#define OP_FIELDS(FIELD)                                                                          \
    FIELD(int64_t, kind)    /* code of the operation */                                           \
    FIELD(int64_t, code)    /* Act of the epilogue, or Loss of the head */                        \
    FIELD(int64_t, n_in)    /* columns read */                                                    \
    FIELD(int64_t, n_out)   /* columns written */                                                 \
    FIELD(int64_t, x)       /* first value read (m, n_in), or INPUT */                            \
    FIELD(int64_t, x2)      /* second value read (m, n_in), INPUT or NONE */                      \
    FIELD(int64_t, z)       /* before the activation (m, n_out); equals a where it is not kept */ \
    FIELD(int64_t, a)       /* after the activation (m, n_out) */                                 \
    FIELD(int64_t, saved)   /* per-sample elements left for the backward pass, or NONE */         \
    FIELD(int64_t, da)      /* dC/da (m, n_out), turned into dC/dz by its last writer; or NONE */ \
    FIELD(int64_t, dx)      /* dC/dx (m, n_in), the da of operation `below`, or NONE */           \
    FIELD(int64_t, dx2)     /* dC/dx2 (m, n_in), the da of operation `below2`, or NONE */         \
    FIELD(int64_t, adds)    /* 1: dx is added to, 0: overwritten */                               \
    FIELD(int64_t, adds2)   /* 1: dx2 is added to, 0: overwritten */                              \
    FIELD(int64_t, below)   /* index of the operation whose output is x, or NONE for INPUT */     \
    FIELD(int64_t, below2)  /* index of the operation whose output is x2, or NONE */              \
    FIELD(int64_t, fold)    /* index of the operation computed together with it, or NONE */     \
    FIELD(int64_t, w)       /* first parameter: weights (n_in, n_out), slopes; or NONE */         \
    FIELD(int64_t, b)       /* second parameter: biases (n_out,); or NONE */                      \
    FIELD(int64_t, state)   /* running statistics in the flat state vector, or NONE */            \
    FIELD(int64_t, batch)   /* float64 elements in the per-batch space, or NONE */                \
    FIELD(int64_t, scratch) /* elements in the scratch space, or NONE */                          \
    FIELD(int64_t, constants) /* first of its numbers in the plan's constants, or NONE */         \
    FIELD(double, arg0)     /* argument of the activation or loss; label smoothing */             \
    FIELD(double, arg1)     /* l1 penalty; epsilon of a normalisation */                          \
    FIELD(double, arg2)     /* l2 penalty; momentum of running statistics */                      \
    FIELD(double, arg3)     /* 1: the fold follows the activation; the user's loss is Python's */ \
    FIELD(int64_t, hyper)   /* its own hyperparameter of a step, counted from the end; or NONE */ \
    FIELD(int64_t, stream)  /* the stream of its random numbers, or NONE */

#define FIELD_OF_STRUCT(type, name) type name;

struct op {
    OP_FIELDS(FIELD_OF_STRUCT)
};

struct context;

/* A kernel does the share `part` of `parts` of one call; it returns a status. */
typedef int64_t kernel_function(struct context *context, int64_t part, int64_t parts);

/* Calls a function with (context, thread, threads) on so many threads, or on fewer, side by side;
   returns the largest status. */
typedef int64_t launch_function(kernel_function *function, struct context *context,
                                int64_t threads);

/* One entry of a bound program: call `kernel` for operation `op`. */
#define CALL_FIELDS(FIELD)                                                                        \
    FIELD(kernel_function *, kernel)                                                              \
    FIELD(void *, inner)         /* elementwise epilogue called per tile, or NULL */              \
    FIELD(int64_t, op)           /* index of the operation */                                     \
    FIELD(int64_t, split)        /* SPLIT_... */                                                  \
    FIELD(int64_t, meets)        /* 1: the threads meet before it, since data cross */

struct call {
    CALL_FIELDS(FIELD_OF_STRUCT)
};

/* One range of the flat vector whose parameters an optimizer treats alike. */
#define GROUP_FIELDS(FIELD)                                                                       \
    FIELD(int64_t, begin)                                                                         \
    FIELD(int64_t, end)                                                                           \
    FIELD(double, rate)          /* factor of the learning rate */                                \
    FIELD(double, decay)         /* factor of the weight decay */

struct group {
    GROUP_FIELDS(FIELD_OF_STRUCT)
};

/* Everything that kernels see. Each thread has its own copy, in which the driver sets the first two
   groups; Python sets the rest. */
#define CONTEXT_FIELDS(FIELD)                                                                     \
    /* per call of a kernel */                                                                    \
    FIELD(const struct op *, op)                                                                  \
    FIELD(void *, inner)                                                                          \
    FIELD(int64_t, split)                                                                         \
    /* per batch */                                                                               \
    FIELD(void *, input)           /* (m, n_inputs) */                                            \
    FIELD(int64_t, start)          /* first row of the batch */                                   \
    FIELD(int64_t, m)              /* rows of the batch */                                        \
    FIELD(double, weight_sum)      /* sum of the batch's weights: m without weights */            \
    FIELD(double, scale)           /* factor of the gradient: 1 / weight_sum for means, or 1 */   \
    FIELD(double, penalty_scale)   /* of the penalties in the gradient: see begin_batch */        \
    /* the model */                                                                               \
    FIELD(const struct op *, ops)                                                                 \
    FIELD(void *, params)                                                                         \
    FIELD(void *, grad)                                                                           \
    FIELD(void *, slots)                                                                          \
    FIELD(void *, state)                                                                          \
    FIELD(const double *, constants) /* numbers of operations that do not fit their arguments */  \
    FIELD(int64_t, n_params)                                                                      \
    FIELD(int64_t, n_state)                                                                       \
    FIELD(int64_t, n_inputs)                                                                      \
    FIELD(int64_t, n_outputs)                                                                     \
    FIELD(int64_t, mean)           /* 1: the loss is a mean over rows, 0: a sum */                \
    FIELD(int64_t, penalty_is_row) /* 1: the penalties count like a row of weight 1 */            \
    FIELD(void *, user_loss)       /* a user's loss (custom_loss.h), or NULL */                   \
    /* the optimizer */                                                                           \
    FIELD(const struct group *, groups)                                                           \
    FIELD(int64_t, n_groups)                                                                      \
    FIELD(int64_t, n_matrices)     /* further entries: matrices with a rule of their own */       \
    FIELD(int64_t, norms)          /* per-batch offset: sums of squares of the gradient */        \
    FIELD(void *, average)         /* of the parameters, then of the statistics; or NULL */       \
    /* the workspace */                                                                           \
    FIELD(void *, work)                                                                           \
    FIELD(int64_t, capacity)       /* rows it can hold */                                         \
    FIELD(int64_t, gathered)       /* per-sample offset of the gathered batch */                  \
    FIELD(int64_t, targets)        /* per-sample offset of the batch's targets (m, n_outputs) */  \
    FIELD(double *, batch)         /* the per-batch space */                                      \
    FIELD(void *, scratch)                                                                        \
    FIELD(double *, row_loss)      /* (capacity,) */                                              \
    FIELD(double *, row_correct)   /* (capacity,) */                                              \
    /* per call of the driver */                                                                  \
    FIELD(const double *, hyper)   /* (hyper_columns,) of this step, or NULL */                   \
    FIELD(int64_t, hyper_columns)                                                                 \
    FIELD(double *, result)        /* (2,) of this batch: sum of losses, n_correct */             \
    FIELD(const void *, X)         /* (n_samples, n_inputs), of one of the feature types; */      \
                                   /* of a sparse X the stored values */                          \
    FIELD(const void *, indices)   /* (n_stored,) the column of each stored value, or NULL */     \
    FIELD(const void *, indptr)    /* (n_samples + 1,) where the rows begin there, or NULL */     \
    FIELD(int64_t, n_stored)       /* stored values of a sparse X */                              \
    FIELD(const void *, Y)         /* (n_samples, n_outputs), or NULL */                          \
    FIELD(const int32_t *, labels) /* (n_samples,), or NULL */                                    \
    FIELD(const double *, weights) /* (n_samples,) weights of the rows, or NULL */                \
    FIELD(const int64_t *, order)  /* (n_rows,) numbers of rows of X, or NULL */                  \
    FIELD(void *, out)             /* (n_rows, n_outputs) results of a forward pass, or NULL */   \
    FIELD(int64_t, output)         /* per-sample offset: copied to out, compared with targets */   \
    FIELD(int64_t, n_samples)      /* rows of X */                                                \
    FIELD(int64_t, n_rows)         /* rows to run on: entries of the order, or n_samples */       \
    FIELD(int64_t, epoch_rows)     /* of an epoch; the order may hold several, in a row */        \
    FIELD(int64_t, batch_size)                                                                    \
    FIELD(int64_t, gathers)        /* 1: each batch is gathered, 0: it is read in place */        \
    FIELD(double, input_scale)     /* factor of every element of X */                             \
    FIELD(int64_t, accumulates)    /* 1: the batches are pieces of one; their gradients add up */  \
    FIELD(double, total_weight)    /* weight_sum of all pieces, where they accumulate ... */      \
    FIELD(double, total_penalty)   /* ... and their penalty_scale */                              \
    FIELD(int64_t, seed)           /* of the network */                                           \
    FIELD(int64_t, step)           /* number of the step, from 0 over the whole training */       \
    FIELD(int64_t, training)       /* 1: a training program, 0: prediction or evaluation */       \
    FIELD(char *, pack)            /* PACK_BYTES for each part: the packing buffers */            \
    FIELD(launch_function *, launch) /* the launcher, or NULL for one thread */                   \
    FIELD(int64_t, threads)        /* threads to launch; afterwards, those that ran */            \
    FIELD(int64_t, parts)          /* parts of each call that is split */                         \
    /* set by the driver, for all threads */                                                      \
    FIELD(const struct call *, calls) /* the program: n_calls entries ... */                      \
    FIELD(int64_t, n_calls)                                                                       \
    FIELD(int64_t, first)          /* ... and the batches to run it on: first, ..., last-1 */     \
    FIELD(int64_t, last)                                                                          \
    /* the machine */                                                                             \
    FIELD(const void *, one)       /* the number 1 in the network's type */                       \
    FIELD(const void *, zeros)     /* MAX_NC zeros in the network's type */                       \
    FIELD(void *, product)         /* not used here: for kernels that are compiled apart */       \
    FIELD(void *, product_upper)                                                                  \
    FIELD(void *, transpose)                                                                      \
    FIELD(kernel_function *, walk) /* what every thread of a run calls */                         \
    FIELD(struct team *, team)     /* where the threads of a run meet */                          \
    FIELD(void *, yields)          /* gives the core away, or NULL */                             \
    FIELD(int64_t *, ran)          /* (MOST_PARTS,) how many split calls each part has run */     \
    FIELD(int64_t *, ran_on)       /* (MOST_PARTS,) the thread that ran it last; -1: the only one */

struct team;

struct context {
    CONTEXT_FIELDS(FIELD_OF_STRUCT)
};

/* Codes and sizes of tables.py, where each is explained. */
#define CODES(CODE)                                                                               \
    CODE(NONE, -1)                                                                                \
    CODE(INPUT, -2)                                                                               \
    CODE(KC, 512)                                                                                 \
    CODE(MC, 128)                                                                                 \
    CODE(NC_PANELS, 16)                                                                           \
    CODE(NR_VECTORS, 3)                                                                           \
    CODE(PACK_BYTES, KC * NC_PANELS * NR_VECTORS * 64 + MC * KC * 8)                              \
    CODE(MAX_NC, NC_PANELS * NR_VECTORS * 16)                                                     \
    CODE(FEW_OUTPUTS, 4)                                                                          \
    CODE(SLAB_WEIGHTS, 1 << 14)                                                                   \
    CODE(SLAB_ROWS, 2048)                                                                         \
    CODE(MOST_SLABS, 32)                                                                          \
    CODE(NORM_BLOCK, 4096)                                                                        \
    CODE(MOST_PARTS, 256)                                                                         \
    CODE(TEAM_WORDS, 112)                                                                         \
    CODE(TEAM_STEP, 16)                                                                           \
    CODE(SPLIT_rows, 0)                                                                           \
    CODE(SPLIT_columns, 1)                                                                        \
    CODE(SPLIT_blocks, 2)                                                                         \
    CODE(SPLIT_alone, 3)                                                                          \
    CODE(SPLIT_each, 4)                                                                           \
    CODE(LOSS_mse, 0)                                                                             \
    CODE(LOSS_squared_error, 13)                                                                  \
    CODE(STATUS_OK, 0)                                                                            \
    CODE(STATUS_NOT_FINITE, 1)                                                                    \
    CODE(STATUS_BAD_CALL, 2)                                                                      \
    CODE(STATUS_BAD_INDEX, 3)                                                                     \
    CODE(STATUS_STOPPED, 4)

#define ENUM_OF_CODE(name, value) name = value,

enum { CODES(ENUM_OF_CODE) };

/* The functions of one level of vector instructions and one element type, by name. */
struct symbol {
    const char *name;
    void (*address)(void);
};

/* An entry of such a table, for a list like DENSE_SYMBOLS. */
#define SYMBOL_OF(name, function) {name, (void (*)(void))function},
#define SYMBOL(name) SYMBOL_OF(#name, name)

struct engine {
    const char *level, *dtype;
    const struct symbol *symbols; /* the last one has no name */
};

#endif

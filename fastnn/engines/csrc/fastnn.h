/* The tables that engines execute: the records and codes of fastnn/engines/tables.py in C.

   Every field is 8 bytes wide, so that the NumPy records and these structures agree without
   padding. The lists of fields are macros, because the module hands the names and offsets on to
   Python, where a test compares them with tables.py. */

#ifndef FASTNN_H
#define FASTNN_H

#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(void *) == 8 && sizeof(double) == 8, "fields are 8 bytes wide");

/* One operation of the plan. Offsets into the workspace (x, z, a, da, dx) count elements per
   sample; w and b point into the flat parameter vector and, alike, into the flat gradient. */
#define ROW_FIELDS(FIELD)                                                                         \
    FIELD(int64_t, op)      /* enum op */                                                         \
    FIELD(int64_t, code)    /* activation of a dense or activation row, loss of the head */       \
    FIELD(int64_t, n_in)    /* columns read */                                                    \
    FIELD(int64_t, n_out)   /* columns written */                                                 \
    FIELD(int64_t, x)       /* input (m, n_in), or INPUT */                                       \
    FIELD(int64_t, z)       /* before the activation (m, n_out); equals a where it is not kept */ \
    FIELD(int64_t, a)       /* after the activation (m, n_out) */                                 \
    FIELD(int64_t, da)      /* dC/da (m, n_out), turned into dC/dz by whoever writes it */        \
    FIELD(int64_t, dx)      /* dC/dx (m, n_in), the da of row `below` */                          \
    FIELD(int64_t, below)   /* the row whose output this row reads, or NONE */                    \
    FIELD(int64_t, w)       /* weights (n_in, n_out), or NONE */                                  \
    FIELD(int64_t, b)       /* biases (n_out,), or NONE */                                        \
    FIELD(int64_t, state)   /* running statistics, or NONE */                                     \
    FIELD(int64_t, scratch) /* elements in the part of the workspace that no sample scales */     \
    FIELD(double, arg0)     /* argument of the activation; label smoothing of the head */         \
    FIELD(double, arg1)     /* l1 penalty of a dense row */                                       \
    FIELD(double, arg2)     /* l2 penalty of a dense row */                                       \
    FIELD(double, arg3)

#define FIELD_OF_STRUCT(type, name) type name;

struct row {
    ROW_FIELDS(FIELD_OF_STRUCT)
};

struct context;

/* A leaf does the share `part` of `parts` of one call; what it returns is an enum status. */
typedef int64_t leaf_function(struct context *context, int64_t part, int64_t parts);

/* Runs the parts of a leaf side by side; the sum of their statuses. */
typedef int64_t launch_function(leaf_function *leaf, struct context *context, int64_t parts);

/* One entry of a bound program: call `leaf` for `row`, split by its cost. */
#define CALL_FIELDS(FIELD)                                                                        \
    FIELD(leaf_function *, leaf)                                                                  \
    FIELD(void *, inner)         /* elementwise epilogue called per tile, or NULL */              \
    FIELD(int64_t, row)          /* index of the plan's row */                                    \
    FIELD(double, fixed)         /* cost of the call in arithmetic operations ... */              \
    FIELD(double, per_row)       /* ... and what each row of the batch adds */

struct call {
    CALL_FIELDS(FIELD_OF_STRUCT)
};

/* Everything that leaves see. The driver sets the first two groups, Python the rest. */
#define CONTEXT_FIELDS(FIELD)                                                                     \
    /* per call of a leaf */                                                                      \
    FIELD(const struct row *, row)                                                                \
    FIELD(void *, inner)                                                                          \
    /* per batch */                                                                               \
    FIELD(void *, input)         /* (m, n_inputs) */                                              \
    FIELD(int64_t, start)        /* first row of the batch */                                     \
    FIELD(int64_t, m)            /* rows of the batch */                                          \
    FIELD(double, scale)         /* factor of the gradient: 1/mass for means, 1 for sums */       \
    FIELD(double, mass)          /* sum of the batch's weights: m without weights */              \
    /* the model */                                                                               \
    FIELD(const struct row *, rows)                                                               \
    FIELD(void *, params)                                                                         \
    FIELD(void *, grad)                                                                           \
    FIELD(void *, slots)                                                                          \
    FIELD(int64_t, n_params)                                                                      \
    FIELD(int64_t, n_inputs)                                                                      \
    FIELD(int64_t, n_outputs)                                                                     \
    FIELD(int64_t, mean)         /* 1: the loss is a mean over rows, 0: a sum */                  \
    /* the workspace */                                                                           \
    FIELD(void *, work)                                                                           \
    FIELD(int64_t, capacity)     /* rows it can hold */                                           \
    FIELD(int64_t, gather)       /* per-sample offset of the gathered batch */                    \
    FIELD(int64_t, target)       /* per-sample offset of the batch's targets (m, n_outputs) */    \
    FIELD(void *, scratch)                                                                        \
    FIELD(double *, row_loss)    /* (capacity,) */                                                \
    FIELD(double *, row_hit)     /* (capacity,) */                                                \
    FIELD(double *, row_weight)  /* (capacity,) the batch's weights, if there are any */          \
    FIELD(double *, penalties)   /* (widest n_in,) penalty of each row of W */                    \
    /* per call of the driver */                                                                  \
    FIELD(const double *, hyper) /* (HYPER_COLUMNS,) of this step */                              \
    FIELD(double *, result)      /* (2,) of this batch: sum of losses, number of hits */          \
    FIELD(const void *, X)       /* (n_samples, n_inputs), of one of the feature types */         \
    FIELD(const void *, Y)       /* (n_samples, n_outputs), or NULL */                            \
    FIELD(const int32_t *, labels)  /* (n_samples,), or NULL */                                   \
    FIELD(const double *, weights)  /* (n_samples,), or NULL */                                   \
    FIELD(const int64_t *, order)   /* (n_samples,) the shuffled order, or NULL */                \
    FIELD(void *, out)           /* (n_samples, n_outputs) results of a forward pass, or NULL */  \
    FIELD(int64_t, source)       /* per-sample offset that is copied to `out` */                  \
    FIELD(int64_t, n_samples)                                                                     \
    FIELD(int64_t, batch_size)                                                                    \
    FIELD(int64_t, gathers)      /* 1: each batch is gathered, 0: it is read where it lies in X */ \
    FIELD(double, input_scale)   /* factor of every element of X */                               \
    FIELD(char *, pack)          /* PACK_BYTES for each part, for panels of a product */          \
    FIELD(launch_function *, launch) /* the parallel launcher, or NULL for a plain loop */        \
    FIELD(int64_t, parts)        /* most parts a call is split into */                            \
    FIELD(double, grain)         /* arithmetic operations that are worth a part */                \
    /* the machine */                                                                             \
    FIELD(const void *, one)     /* the number 1 in the network's type */                         \
    FIELD(const void *, zeros)   /* MOST_COLUMNS zeros in the network's type */                   \
    FIELD(void *, product)       /* the matrix product */                                         \
    FIELD(int64_t *, ran)        /* (MOST_PARTS,) how often each part has run */                  \
    FIELD(int64_t *, statuses)   /* (MOST_PARTS,) what each part returned */                      \
    FIELD(int64_t *, ran_on)     /* (MOST_PARTS,) the thread of the pool that ran it last */

struct context {
    CONTEXT_FIELDS(FIELD_OF_STRUCT)
};

/* Codes and sizes of tables.py that the leaves use; the test compares them too. */
#define CODES(CODE)                                                                               \
    CODE(NONE, -1)                                                                                \
    CODE(INPUT, -2)                                                                               \
    CODE(OP_DENSE, 1)                                                                             \
    CODE(OP_ACTIVATION, 2)                                                                        \
    CODE(OP_SOFTMAX, 3)                                                                           \
    CODE(OP_LOSS, 4)                                                                              \
    CODE(LOSS_mse, 0)                                                                             \
    CODE(STATUS_OK, 0)                                                                            \
    CODE(STATUS_NOT_FINITE, 1)                                                                    \
    CODE(STATUS_BAD_CALL, 2)                                                                      \
    CODE(HYPER_COLUMNS, 4)                                                                        \
    CODE(PACK_BYTES, 512 * 16 * 3 * 64 + 128 * 512 * 8)                                           \
    CODE(MOST_COLUMNS, 16 * 3 * 16)                                                               \
    CODE(FEW_OUTPUTS, 4)                                                                          \
    CODE(SLAB_ROWS, 2048)                                                                         \
    CODE(MOST_SLABS, 32)                                                                          \
    CODE(MOST_PARTS, 256)

#define ENUM_OF_CODE(name, value) name = value,

enum { CODES(ENUM_OF_CODE) };

/* The functions of one level of vector instructions and one element type, by name. */
struct symbol {
    const char *name;
    void (*address)(void);
};

struct engine {
    const char *level, *dtype;
    const struct symbol *symbols; /* the last one has no name */
};

#endif

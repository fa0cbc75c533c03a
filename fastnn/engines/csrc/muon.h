/* Muon: the momentum of a hidden weight matrix W (n_in, n_out), orthogonalised (K. Jordan, 2024).

   A matrix is kept tall: Y (r, c) with r >= c is the direction or its transpose. Five times or so,
   A = Yt Y, B = alpha I + beta A + gamma A A and Y = Y B. A and B are symmetric: what lies above the
   diagonal is computed and mirrored, which changes no bit, since an element and its mirror image are
   the same chain of products.

   The scratch space holds Y twice, then A and B. Kernels whose name ends in `back` read the second Y
   where the others read the first, and write the first. */

/* Coefficients of the iteration, and the least norm that is divided by. */
#define MUON_ALPHA 3.4445
#define MUON_BETA -4.7750
#define MUON_GAMMA 2.0315
#define MUON_LEAST 1e-7

/* Muon's own hyperparameters, which follow Adam's three. */
enum {
    HYPER_matrix_lr = HYPER_own + 3,
    HYPER_matrix_decoupled,
    HYPER_matrix_momentum,
    HYPER_of_gradient,
    HYPER_of_momentum,
    HYPER_orthogonalises,
};

/* The matrix of the call's operation, and its place in the scratch space. */
struct muon_matrix {
    int64_t at, size;     /* in the flat vectors */
    int64_t rows, columns; /* of Y */
    bool is_transposed;
    real *y, *other, *gram, *factor;
};

/* Elements of a buffer, such that the next one begins a cache line. */
INLINE int64_t whole_lines(int64_t size) { return (size + 15) / 16 * 16; }

INLINE struct muon_matrix muon_matrix_of(const struct context *ctx)
{
    const int64_t n_in = ctx->op->n_in, n_out = ctx->op->n_out;
    const int64_t rows = larger_of(n_in, n_out), columns = smaller_of(n_in, n_out);
    real *y = (real *)ctx->scratch, *other = y + whole_lines(rows * columns);
    real *gram = other + whole_lines(rows * columns);
    return (struct muon_matrix){
        .at = ctx->op->w, .size = rows * columns, .rows = rows, .columns = columns,
        .is_transposed = n_in < n_out, .y = y, .other = other, .gram = gram,
        .factor = gram + whole_lines(columns * columns),
    };
}

INLINE bool orthogonalises(const struct context *ctx)
{
    return ctx->hyper[HYPER_orthogonalises] != 0.0;
}

/* M = mu M + (1-mu) G, and where the step orthogonalises D = of_gradient G + of_momentum M with the
   sums of squares of its blocks; split by blocks.

   D becomes Y, or is the second Y if that is transposed. */
static int64_t muon_momentum(struct context *ctx, int64_t part, int64_t parts)
{
    const struct muon_matrix w = muon_matrix_of(ctx);
    const double *hyper = ctx->hyper;
    HYPER(mu, hyper[HYPER_matrix_momentum]);
    HYPER(rest, 1.0 - hyper[HYPER_matrix_momentum]);
    HYPER(of_gradient, hyper[HYPER_of_gradient]);
    HYPER(of_momentum, hyper[HYPER_of_momentum]);
    const bool turns = orthogonalises(ctx);
    const struct range mine = share_of((w.size + NORM_BLOCK - 1) / NORM_BLOCK, 1, part, parts);
    for (int64_t block = mine.begin; block < mine.end; block++) {
        const int64_t begin = block * NORM_BLOCK;
        const int64_t count = smaller_of(NORM_BLOCK, w.size - begin);
        const real *g = (const real *)ctx->grad + w.at + begin;
        real *m = (real *)ctx->slots + w.at + begin;
        real *d = (w.is_transposed ? w.other : w.y) + begin;
        FOR_VECTORS(i, n, count, const vec gradient = take(g + i, n);
                    const vec buffer = mu * take(m + i, n) + rest * gradient;
                    put(m + i, buffer, n);
                    if (turns) put(d + i, of_gradient * gradient + of_momentum * buffer, n););
        if (turns) ctx->batch[ctx->norms + block] = dot_of(d, d, count);
    }
    return STATUS_OK;
}

/* Y = D / |D|, transposed if W is wide; split by rows of W. */
static int64_t muon_start(struct context *ctx, int64_t part, int64_t parts)
{
    if (!orthogonalises(ctx)) return STATUS_OK;
    const struct muon_matrix w = muon_matrix_of(ctx);
    const int64_t n_in = ctx->op->n_in, n_out = ctx->op->n_out;
    const double norm = sqrt(sum_in_blocks(0.0, ctx->batch + ctx->norms,
                                           (w.size + NORM_BLOCK - 1) / NORM_BLOCK));
    HYPER(factor, 1.0 / (norm > MUON_LEAST ? norm : MUON_LEAST));
    const struct range mine = share_of(n_in, 16, part, parts);
    real *d = (w.is_transposed ? w.other : w.y) + mine.begin * n_out;
    FOR_VECTORS(i, n, (mine.end - mine.begin) * n_out, put(d + i, factor * take(d + i, n), n););
    if (w.is_transposed)
        transpose(w.y + mine.begin, n_in, d, n_out, mine.end - mine.begin, n_out);
    return STATUS_OK;
}

/* The first column of a symmetric matrix that belongs to a part, so that all parts compute about as
   many elements on and above the diagonal, and of the tiles on it. */
INLINE int64_t upper_share(int64_t columns, int64_t part, int64_t parts)
{
    if (part == 0) return 0;
    if (part == parts) return columns;
    const double n = (double)columns, half = NR / 2.0, share_of_all = (double)part / (double)parts;
    const double at = sqrt(half * half + share_of_all * n * (n + NR)) - half;
    return smaller_of(columns, ((int64_t)at + LANES / 2) / LANES * LANES);
}

/* c = at b on and above the diagonal, for the columns of a part; a and b are (k, columns). */
static void upper_columns(const struct context *ctx, int64_t part, struct range mine, real *c,
                          const real *a, const real *b, int64_t k, int64_t columns)
{
    for (int64_t j = mine.begin; j < mine.end; j += NC) {
        const int64_t some = smaller_of(NC, mine.end - j);
        const struct gemm g = {
            .c = c + j, .c_row = columns, .first = ctx->zeros, .first_row = 0, .a = a, .a_row = 1,
            .a_col = columns, .b = b + j, .b_row = columns, .m = j + some, .n = some, .k = k,
            .adds = 0, .pack = pack_of(ctx, part),
        };
        product_upper(&g, j);
    }
}

/* Copy some columns above the diagonal to the rows below it. */
static void mirror(real *c, struct range mine, int64_t columns)
{
    for (int64_t j = mine.begin; j < mine.end; j += LANES)
        transpose(c + j * columns, columns, c + j, columns, j, smaller_of(LANES, mine.end - j));
}

/* A = Yt Y; split by columns. */
INLINE int64_t gram_of(const struct context *ctx, int64_t part, int64_t parts, bool back)
{
    if (!orthogonalises(ctx)) return STATUS_OK;
    const struct muon_matrix w = muon_matrix_of(ctx);
    const real *y = back ? w.other : w.y;
    const struct range mine = {upper_share(w.columns, part, parts),
                               upper_share(w.columns, part + 1, parts)};
    upper_columns(ctx, part, mine, w.gram, y, y, w.rows, w.columns);
    mirror(w.gram, mine, w.columns);
    return STATUS_OK;
}

static int64_t muon_gram(struct context *ctx, int64_t part, int64_t parts)
{
    return gram_of(ctx, part, parts, false);
}

static int64_t muon_gram_back(struct context *ctx, int64_t part, int64_t parts)
{
    return gram_of(ctx, part, parts, true);
}

/* B = alpha I + beta A + gamma A A; split by columns. */
static int64_t muon_factor(struct context *ctx, int64_t part, int64_t parts)
{
    if (!orthogonalises(ctx)) return STATUS_OK;
    const struct muon_matrix w = muon_matrix_of(ctx);
    const int64_t c = w.columns;
    const struct range mine = {upper_share(c, part, parts), upper_share(c, part + 1, parts)};
    upper_columns(ctx, part, mine, w.factor, w.gram, w.gram, c, c);
    HYPER(beta, MUON_BETA);
    HYPER(gamma, MUON_GAMMA);
    for (int64_t i = 0; i < mine.end; i++) {
        /* The first column of which this row has been computed: whole vectors of it. */
        const int64_t start = mine.begin + larger_of(0, i - mine.begin) / LANES * LANES;
        const real *a = w.gram + i * c + start;
        real *b = w.factor + i * c + start;
        FOR_VECTORS(j, n, mine.end - start, put(b + j, beta * take(a + j, n) + gamma * take(b + j, n), n););
        if (i >= mine.begin) w.factor[i * c + i] += (real)MUON_ALPHA;
    }
    mirror(w.factor, mine, c);
    return STATUS_OK;
}

/* Y = Y B; split by rows, or where these are few by columns. */
INLINE int64_t turn_of(const struct context *ctx, int64_t part, int64_t parts, bool back)
{
    if (!orthogonalises(ctx)) return STATUS_OK;
    const struct muon_matrix w = muon_matrix_of(ctx);
    const real *from = back ? w.other : w.y;
    real *to = back ? w.y : w.other;
    const int64_t c = w.columns;
    const struct area mine = block_of_part(ctx, w.rows, c, part, parts);
    for (int64_t j = mine.j; j < mine.j_end; j += NC)
        for (int64_t i = mine.i; i < mine.i_end; i += BLOCK_ROWS) {
            const struct gemm g = {
                .c = to + i * c + j, .c_row = c, .first = ctx->zeros, .first_row = 0,
                .a = from + i * c, .a_row = c, .a_col = 1, .b = w.factor + j, .b_row = c,
                .m = smaller_of(BLOCK_ROWS, mine.i_end - i), .n = smaller_of(NC, mine.j_end - j),
                .k = c, .adds = 0, .pack = pack_of(ctx, part),
            };
            product(&g);
        }
    return STATUS_OK;
}

static int64_t muon_turn(struct context *ctx, int64_t part, int64_t parts)
{
    return turn_of(ctx, part, parts, false);
}

static int64_t muon_turn_back(struct context *ctx, int64_t part, int64_t parts)
{
    return turn_of(ctx, part, parts, true);
}

/* W = W - decoupled W - lr sqrt(max(1, n_out / n_in)) D, where D is kept in the second slot: Y or its
   transpose if the step orthogonalises, else as it is; split by rows of W. */
INLINE int64_t apply_of(const struct context *ctx, int64_t part, int64_t parts, bool back)
{
    const struct muon_matrix w = muon_matrix_of(ctx);
    const struct group *group = ctx->groups + ctx->n_groups;
    while (group < ctx->groups + ctx->n_groups + ctx->n_matrices && group->begin != w.at) group++;
    if (group == ctx->groups + ctx->n_groups + ctx->n_matrices) return STATUS_BAD_CALL;
    const int64_t n_in = ctx->op->n_in, n_out = ctx->op->n_out;
    const struct range mine = share_of(n_in, 16, part, parts);
    const int64_t rows = mine.end - mine.begin;
    real *weights = (real *)ctx->params + w.at + mine.begin * n_out;
    real *d = (real *)ctx->slots + ctx->n_params + w.at + mine.begin * n_out;
    const real *y = back ? w.other : w.y;
    if (orthogonalises(ctx) && w.is_transposed)
        transpose(d, n_out, y + mine.begin, n_in, n_out, rows);
    else if (orthogonalises(ctx))
        copy_to(d, y + mine.begin * n_out, rows * n_out);
    const double ratio = n_out > n_in ? sqrt((double)n_out / (double)n_in) : 1.0;
    HYPER(rate, ctx->hyper[HYPER_matrix_lr] * group->rate * ratio);
    HYPER(decoupled, ctx->hyper[HYPER_matrix_decoupled] * group->rate * group->decay);
    FOR_VECTORS(i, n, rows * n_out, const vec weight = take(weights + i, n);
                put(weights + i, weight - decoupled * weight - rate * take(d + i, n), n););
    return STATUS_OK;
}

static int64_t muon_apply(struct context *ctx, int64_t part, int64_t parts)
{
    return apply_of(ctx, part, parts, false);
}

static int64_t muon_apply_back(struct context *ctx, int64_t part, int64_t parts)
{
    return apply_of(ctx, part, parts, true);
}

#define MUON_SYMBOLS                                                                              \
    SYMBOL(muon_momentum)                                                                         \
    SYMBOL(muon_start)                                                                            \
    SYMBOL(muon_gram)                                                                             \
    SYMBOL(muon_gram_back)                                                                        \
    SYMBOL(muon_factor)                                                                           \
    SYMBOL(muon_turn)                                                                             \
    SYMBOL(muon_turn_back)                                                                        \
    SYMBOL(muon_apply)                                                                            \
    SYMBOL(muon_apply_back)

// What llama.cpp makes of a GGUF file, for parity/check_gguf.py:
//
//   llama_peer MODEL tok TEXT OUT        ids of a text file, special tokens recognised
//   llama_peer MODEL loss IDS WINDOW     mean loss in nats; each window starts afresh
//   llama_peer MODEL gen IDS N           ids of the greedy continuation
//
// Ids are little-endian int32. The libraries come prebuilt with npm's node-llama-cpp,
// the headers with the llama.cpp source in it; parity/README.md says how to build.
#include "ggml-backend.h"
#include "llama.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    if (level >= GGML_LOG_LEVEL_ERROR && level != GGML_LOG_LEVEL_CONT) fputs(text, stderr);
}

static void *die(const char *what) {
    fprintf(stderr, "llama_peer: %s\n", what);
    exit(1);
}

static char *slurp(const char *path, long *size) {
    FILE *f = fopen(path, "rb");
    if (!f) die(path);
    fseek(f, 0, SEEK_END);
    *size = ftell(f);
    rewind(f);
    char *b = malloc(*size + 1);
    if (fread(b, 1, *size, f) != (size_t)*size) die(path);
    fclose(f);
    return b;
}

static void tokenize(const struct llama_vocab *vocab, const char *text, long size, const char *out) {
    llama_token *ids = malloc(sizeof *ids * (size + 16));
    int n = llama_tokenize(vocab, text, size, ids, size + 16, false, true);
    FILE *f = fopen(out, "wb");
    if (n < 0 || !f || fwrite(ids, sizeof *ids, n, f) != (size_t)n || fclose(f)) die(out);
}

static int largest(const float *x, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

static void generate(struct llama_context *ctx, llama_token *ids, int n, int more, int vocab) {
    llama_token last;
    struct llama_batch b = llama_batch_get_one(ids, n);
    for (int i = 0; i < more; i++) {
        if (llama_decode(ctx, b)) die("decode");
        last = largest(llama_get_logits_ith(ctx, -1), vocab);
        printf("%d ", last);
        b = llama_batch_get_one(&last, 1);
    }
    puts("");
}

static void loss(struct llama_context *ctx, const llama_token *ids, int n, int window, int vocab) {
    double sum = 0;
    int count = 0;
    for (int at = 0; at + 1 < n; at += window) {
        int len = n - at - 1 < window ? n - at - 1 : window;
        struct llama_batch b = llama_batch_init(len, 0, 1);
        b.n_tokens = len;
        for (int i = 0; i < len; i++) {
            b.token[i] = ids[at + i];
            b.pos[i] = i;
            b.n_seq_id[i] = 1;
            b.seq_id[i][0] = 0;
            b.logits[i] = 1;
        }
        llama_memory_clear(llama_get_memory(ctx), true);
        if (llama_decode(ctx, b)) die("decode");
        for (int i = 0; i < len; i++, count++) {
            const float *x = llama_get_logits_ith(ctx, i);
            double most = x[largest(x, vocab)], z = 0;
            for (int j = 0; j < vocab; j++) z += exp(x[j] - most);
            sum += log(z) + most - x[ids[at + i + 1]];
        }
        llama_batch_free(b);
    }
    printf("%.8f\n", sum / count);
}

int main(int argc, char **argv) {
    if (argc != 5) die("want MODEL tok|loss|gen FILE OUT|WINDOW|N");
    llama_log_set(quiet, NULL);
    ggml_backend_load_all_from_path(getenv("LLAMA_LIB"));
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) die("the model does not load");
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    long size;
    char *data = slurp(argv[3], &size);
    if (!strcmp(argv[2], "tok")) {
        tokenize(vocab, data, size, argv[4]);
        return 0;
    }
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = 2048;
    p.n_threads = p.n_threads_batch = 1;
    p.type_k = p.type_v = GGML_TYPE_F32;
    struct llama_context *ctx = llama_init_from_model(model, p);
    if (!ctx) die("no context");
    int words = llama_vocab_n_tokens(vocab), n = size / sizeof(llama_token);
    if (!strcmp(argv[2], "gen")) generate(ctx, (llama_token *)data, n, atoi(argv[4]), words);
    else loss(ctx, (llama_token *)data, n, atoi(argv[4]), words);
    return 0;
}

// What llama.cpp makes of a GGUF file, for parity/check_gguf.py and tare bench:
//
//   llama_peer MODEL tok TEXT OUT        ids of a text file, special tokens recognised
//   llama_peer MODEL loss IDS WINDOW     mean loss in nats; each window starts afresh
//   llama_peer MODEL gen IDS N           ids of the greedy continuation
//   llama_peer MODEL rate THREADS BATCH  stays, and times decoding for each line
//
// With rate, one line names the peer and the setting that a short trial found fastest;
// then every line read, {"tokens": 32, "seconds": 0.3}, is answered by one line with the
// seconds that so many tokens of each of BATCH streams took.
//
// Ids are little-endian int32. The libraries come prebuilt with npm's node-llama-cpp,
// the headers with the llama.cpp source in it; parity/README.md says how to build.
#include "ggml-backend.h"
#include "llama.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// What the libraries are called, and the folder of their backends unless the variable
// LLAMA_LIB names it.
#ifndef VERSION
#define VERSION "of an unnamed release"
#endif
#ifndef LIB
#define LIB NULL
#endif

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

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

// decode continues each of the streams greedily from one token.
static void decode(struct llama_context *ctx, int streams, int tokens, int vocab) {
    llama_memory_clear(llama_get_memory(ctx), true);
    struct llama_batch b = llama_batch_init(streams, 0, 1);
    b.n_tokens = streams;
    for (int s = 0; s < streams; s++) {
        b.token[s] = s + 1;
        b.n_seq_id[s] = 1;
        b.seq_id[s][0] = s;
        b.logits[s] = 1;
    }
    for (int i = 0; i < tokens; i++) {
        for (int s = 0; s < streams; s++) b.pos[s] = i;
        if (llama_decode(ctx, b)) die("decode");
        for (int s = 0; s < streams; s++) b.token[s] = largest(llama_get_logits_ith(ctx, s), vocab);
    }
    llama_batch_free(b);
}

// timed returns the seconds that decoding takes, as the mean over that time.
static double timed(struct llama_context *ctx, int streams, int tokens, int vocab, double seconds) {
    double begin = now(), spent;
    int n = 0;
    do {
        decode(ctx, streams, tokens, vocab);
        n++;
        spent = now() - begin;
    } while (spent < seconds);
    return spent / n;
}

// rate tries how attention is computed and its cache is held, and then answers lines.
static void rate(struct llama_model *model, int threads, int streams, int vocab) {
    struct llama_context *best = NULL;
    double least = 0;
    char setting[64] = "";
    for (int way = 0; way < 4; way++) {
        struct llama_context_params p = llama_context_default_params();
        p.n_ctx = 256 * streams;
        p.n_seq_max = streams;
        p.n_threads = p.n_threads_batch = threads;
        p.flash_attn_type = way & 1 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
        p.type_k = p.type_v = way & 2 ? GGML_TYPE_F32 : GGML_TYPE_F16;
        struct llama_context *ctx = llama_init_from_model(model, p);
        if (!ctx) continue;
        decode(ctx, streams, 8, vocab);
        double took = timed(ctx, streams, 16, vocab, 0.1);
        if (!best || took < least) {
            if (best) llama_free(best);
            best = ctx;
            least = took;
            snprintf(setting, sizeof setting, "flash attention %s, cache %s", way & 1 ? "on" : "off", way & 2 ? "f32" : "f16");
        } else
            llama_free(ctx);
    }
    if (!best) die("no context");
    printf("{\"peers\": [{\"name\": \"llama.cpp\", \"version\": \"%s\", \"setting\": \"%s\"}]}\n", VERSION, setting);
    fflush(stdout);
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        int tokens = 32;
        double seconds = 0.3;
        char *at = strstr(line, "\"tokens\":");
        if (at) tokens = atoi(at + 9);
        if ((at = strstr(line, "\"seconds\":"))) seconds = atof(at + 10);
        printf("{\"seconds\": %.9f}\n", timed(best, streams, tokens, vocab, seconds));
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) die("want MODEL tok|loss|gen|rate FILE|THREADS OUT|WINDOW|N|BATCH");
    llama_log_set(quiet, NULL);
    const char *lib = getenv("LLAMA_LIB");
    ggml_backend_load_all_from_path(lib ? lib : LIB);
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) die("the model does not load");
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    if (!strcmp(argv[2], "rate")) {
        rate(model, atoi(argv[3]), atoi(argv[4]), llama_vocab_n_tokens(vocab));
        return 0;
    }
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

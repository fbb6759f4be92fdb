/* The seam between the timed loop and a runtime: one file a runtime, which fills one of these tables.
 *
 * A new runtime is a file, a line in `runtimes[]` of main.c, and nothing else. */
#ifndef BENCH_RUNTIME_H
#define BENCH_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

#define MAX_RANK 16

/* An input or output as the file declares it. */
struct tensor {
    char *name;
    const char *dtype; /* NumPy's name: float32, int8... */
    size_t item_bytes;
    size_t rank;
    int64_t shape[MAX_RANK]; /* -1 where the size is known only after a run; a free batch dimension is 1 */
    bool is_quantized;       /* real = scale x (stored - zero_point) */
    double scale;
    int64_t zero_point;
};

/* What the runtime says of where its nodes run. Unknown is -1 or NULL. */
struct placement {
    int64_t nodes_total;
    int64_t nodes_delegated; /* on the accelerator that was asked for */
    int64_t partitions;
    char *fallback_reason;
    struct accelerator_nodes {
        char name[64];
        int64_t nodes;
    } by_accelerator[8];
    size_t accelerators;
};

struct option {
    char *key;
    char *value; /* as text: a string without its quotation marks, 1 and 0 for true and false */
};

/* What is asked of a runtime. */
struct choice {
    const char *runtime;
    const char *accelerator;
    int threads;
    const char *graph_optimization;
    struct option *options;
    size_t option_count;
    const char *profile; /* file to write the time of each operator into; NULL: none is taken */
};

/* A loaded model, ready to run. */
struct session {
    void *state; /* the runtime's own */
    struct tensor *inputs;
    size_t input_count;
    struct tensor *outputs;
    size_t output_count;
    const char *graph_optimization; /* NULL: the runtime has no such thing, or does not tell */
    struct placement placement;
};

struct runtime {
    const char *name;
    const char *api;

    /* Loads the shared library and starts what lives as long as the process. `version` is what the library says of
     * itself, "" where it says nothing. */
    bool (*load_library)(const char *path, char version[64], struct failure *why);

    /* Refuses a damaged file where the runtime itself would crash on one. Not timed; NULL: the runtime checks. */
    bool (*check_file)(const char *model, struct failure *why);

    /* Loads a model: from the file to a session that can run. On failure nothing stays allocated. */
    bool (*open)(struct session *session, const char *model, const struct choice *choice, struct failure *why);

    /* Fills `session->placement`. Not timed. */
    bool (*read_placement)(struct session *session, const char *model, const struct choice *choice,
                           struct failure *why);

    /* Puts one sample, batch dimension included, where the runtime reads it. It stays there. */
    bool (*set_input)(struct session *session, size_t index, const void *bytes, size_t count, struct failure *why);

    /* Runs once and returns when the outputs are there. The only thing that is timed. */
    bool (*invoke)(void *state, struct failure *why);

    /* Hands the bytes that the last run computed to `take`; they are valid only during that call. */
    bool (*read_output)(struct session *session, size_t index,
                        bool (*take)(void *context, const void *bytes, size_t count), void *context,
                        struct failure *why);

    /* Between the two, the time of each operator is taken; the second writes it into `choice.profile`, in the form that
     * `profile_format` names. Both NULL: this runtime cannot. */
    bool (*profile_start)(struct session *session, struct failure *why);
    bool (*profile_end)(struct session *session, const char *path, struct failure *why);
    const char *profile_format;

    void (*close)(struct session *session);
    void (*unload_library)(void);
};

extern const struct runtime onnxruntime_runtime;
extern const struct runtime litert_runtime;

/* Product of the dimensions from `first` on, or -1 where one is unknown. */
int64_t tensor_items(const struct tensor *tensor, size_t first);

/* Frees what every runtime's session holds alike: tensors, names, the fallback's reason. */
void session_free_description(struct session *session);

/* Counts `nodes` more under a name. */
void placement_add(struct placement *placement, const char *name, int64_t nodes);

#endif

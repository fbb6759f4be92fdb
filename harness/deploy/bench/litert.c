/* LiteRT through the C API of its `CompiledModel`, as libLiteRt.so exports it from release 2.3 on.
 *
 * The handles are opaque; the two structures that cross the border, a ranked tensor type and a per-tensor quantization,
 * are declared "part of the public API and ABI stable" in litert/c/litert_model_types.h, and litert_layout.h.
 *
 * Options of the processor (threads, kernels) travel as opaque options with the identifier "xnnpack" and a TOML text;
 * the functions that write that text are not exported. Source: LrtGetOpaqueCpuOptionsData in
 * litert/c/options/litert_cpu_options.cc. LiteRT ignores a text that it does not understand, so that the thread count
 * is believed only because the threads of the process are counted afterwards.
 *
 * Not known through this API: in how many partitions XNNPACK took its nodes, and by which names the nodes go that it
 * left. LiteRT says whether every node was taken; where not, a profile made in a child process tells how many. The
 * library does not know its own version either: it comes from whoever gave the library. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture.h"
#include "ndjson.h"
#include "runtime.h"

#define LITERT_MAX_RANK 8

typedef void *handle;

struct ranked_type {
    int32_t element;
    uint32_t rank_and_flags; /* 7 bits of rank, 1 bit "has strides" */
    int32_t dimensions[LITERT_MAX_RANK];
    uint32_t strides[LITERT_MAX_RANK];
};

struct layout { /* the second part of a ranked_type */
    uint32_t rank_and_flags;
    int32_t dimensions[LITERT_MAX_RANK];
    uint32_t strides[LITERT_MAX_RANK];
};

struct quantization {
    float scale;
    int64_t zero_point;
};

/* One operator of one inference. Source: ProfiledEventData in litert/c/litert_profiler_event.h, whose version for C
 * declares the memory usages with two numbers each; the library, built from the one for C++, writes three. */
struct event {
    const char *name; /* the profiler's */
    int kind;
    uint64_t start_us;
    uint64_t elapsed_us;
    int64_t memory[6];
    uint64_t node;
    uint64_t subgraph;
    int source;
};

_Static_assert(sizeof(struct ranked_type) == 72, "as litert_model_types.h asserts");
_Static_assert(sizeof(struct layout) == 68, "as litert_layout.h asserts");
_Static_assert(sizeof(struct quantization) == 16, "as litert_model_types.h asserts");

/* name after "LiteRt", arguments; each returns a status */
#define LITERT_FUNCTIONS(USE)                                                                                \
    USE(CreateEnvironment, (int count, const void *options, handle *env))                                    \
    USE(CreateModelFromFile, (handle env, const char *path, handle *model))                                  \
    USE(CreateModelFromBuffer, (handle env, const void *bytes, size_t count, handle *model))                 \
    USE(CreateOptions, (handle *options))                                                                    \
    USE(SetOptionsHardwareAccelerators, (handle options, int accelerators))                                  \
    USE(CreateOpaqueOptions, (const char *name, void *data, void (*destroy)(void *), handle *options))       \
    USE(AddOpaqueOptions, (handle options, handle added))                                                    \
    USE(CreateCompiledModel, (handle env, handle model, handle options, handle *compiled))                   \
    USE(CompiledModelIsFullyAccelerated, (handle compiled, bool *is_fully))                                  \
    USE(CompiledModelResizeInputTensor,                                                                      \
        (handle compiled, size_t signature, size_t index, const int *shape, size_t rank))                    \
    USE(GetCompiledModelOutputTensorLayouts,                                                                 \
        (handle compiled, size_t signature, size_t count, struct layout *layouts, bool update))              \
    USE(GetCompiledModelInputBufferRequirements,                                                             \
        (handle compiled, size_t signature, size_t index, handle *requirements))                             \
    USE(GetCompiledModelOutputBufferRequirements,                                                            \
        (handle compiled, size_t signature, size_t index, handle *requirements))                             \
    USE(CreateManagedTensorBufferFromRequirements,                                                           \
        (handle env, const struct ranked_type *type, handle requirements, handle *buffer))                   \
    USE(LockTensorBuffer, (handle buffer, void **memory, int mode))                                          \
    USE(UnlockTensorBuffer, (handle buffer))                                                                 \
    USE(RunCompiledModel, (handle compiled, size_t signature, size_t input_count, handle *inputs,            \
                           size_t output_count, handle *outputs))                                            \
    USE(CompiledModelGetProfiler, (handle compiled, handle *profiler))                                       \
    USE(StartProfiler, (handle profiler))                                                                    \
    USE(StopProfiler, (handle profiler))                                                                     \
    USE(GetNumProfilerEvents, (handle profiler, int *count))                                                 \
    USE(GetProfilerEvents, (handle profiler, int count, struct event *events))                               \
    USE(GetProfileSummary, (handle profiler, handle compiled, const char **summary))                         \
    USE(GetModelSignature, (handle model, size_t index, handle *signature))                                  \
    USE(GetSignatureSubgraph, (handle signature, handle *subgraph))                                          \
    USE(GetSignatureInputTensorByIndex, (handle signature, size_t index, handle *tensor))                    \
    USE(GetSignatureOutputTensorByIndex, (handle signature, size_t index, handle *tensor))                   \
    USE(GetNumSubgraphInputs, (handle subgraph, size_t *count))                                              \
    USE(GetNumSubgraphOutputs, (handle subgraph, size_t *count))                                             \
    USE(GetNumSubgraphOps, (handle subgraph, size_t *count))                                                 \
    USE(GetSubgraphInput, (handle subgraph, size_t index, handle *tensor))                                   \
    USE(GetSubgraphOutput, (handle subgraph, size_t index, handle *tensor))                                  \
    USE(GetTensorName, (handle tensor, const char **name))                                                   \
    USE(GetTensorTypeId, (handle tensor, int *type))                                                         \
    USE(GetRankedTensorType, (handle tensor, struct ranked_type *type))                                      \
    USE(GetQuantizationTypeId, (handle tensor, int *type))                                                   \
    USE(GetPerTensorQuantization, (handle tensor, struct quantization *quantization))

#define LITERT_DESTROYERS(USE) \
    USE(DestroyEnvironment)    \
    USE(DestroyModel)          \
    USE(DestroyOptions)        \
    USE(DestroyCompiledModel)  \
    USE(DestroyTensorBuffer)

static struct api {
#define DECLARE(name, arguments) int(*name) arguments;
    LITERT_FUNCTIONS(DECLARE)
#undef DECLARE
#define DECLARE(name) void (*name)(handle);
    LITERT_DESTROYERS(DECLARE)
#undef DECLARE
} api;

enum { STATUS_NO_MEMORY = 2, STATUS_FILE_IO = 500, STATUS_INVALID_FLATBUFFER = 501 };
enum { RANKED_TYPE = 0, PER_TENSOR_QUANTIZATION = 1 };
enum { READ_BUFFER = 0, WRITE_BUFFER = 1 };
enum { HARDWARE_CPU = 1 };
enum { SIGNATURE = 0 };
enum { OPERATOR_EVENT = 1 << 1, DELEGATE_OPERATOR_EVENT = 1 << 2, DELEGATE_PROFILED_EVENT = 1 << 3 };

static handle env;

/* A tensor as LiteRT runs it. The signature, by which a model is run, may list tensors in another order than the
 * subgraph, by which everyone else knows them: `place` is the place in the signature. */
struct slot {
    handle tensor;
    struct ranked_type type;
    size_t place;
    size_t bytes;
};

struct state {
    handle model;
    handle compiled;
    handle profiler;
    struct slot *inputs, *outputs; /* in the subgraph's order */
    handle *input_buffers, *output_buffers; /* in the signature's order */
    size_t input_count, output_count;
    struct layout *layouts; /* of the outputs, in the signature's order */
    size_t layout_count;
};

static bool compile(struct state *state, const char *model, const struct choice *choice, struct failure *why);
static int read_layouts(struct state *state);
static handle make_options(const struct choice *choice, struct failure *why);
static bool allow_profile(handle options, struct failure *why);
static bool describe(struct session *session, struct state *state, struct failure *why);
static bool describe_side(handle signature, handle subgraph, bool is_input, struct slot *slots,
                          struct tensor *tensors, size_t count, struct failure *why);
static bool describe_tensor(struct slot *slot, struct tensor *tensor, struct failure *why);
static bool fix_batch(struct session *session, struct state *state, struct failure *why);
static bool make_buffers(struct session *session, struct state *state, struct failure *why);
static bool make_buffer(struct state *state, bool is_input, struct slot *slot, struct tensor *tensor,
                        struct failure *why);
static int64_t count_left_nodes(const char *model, const struct choice *choice);
static int64_t profile_left_nodes(const char *model, const struct choice *choice);
static int64_t count_builtin_rows(const char *summary);
static bool passed(int status, const char *step, const char *kind, struct failure *why);
static bool litert_invoke(void *opaque, struct failure *why);
static void litert_close(struct session *session);

static bool litert_load_library(const char *path, char version[64], struct failure *why) {
    version[0] = '\0';
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return fail(why, "missing_tool", "%s", dlerror());
    }
    void *symbol = NULL;
#define FIND(name)                                                                                               \
    symbol = dlsym(library, "LiteRt" #name);                                                                     \
    if (symbol == NULL) {                                                                                        \
        return fail(why, "missing_tool", "%s is not a LiteRT of 2.3 or newer: LiteRt%s is missing", path, #name); \
    }                                                                                                            \
    memcpy(&api.name, &symbol, sizeof symbol);
#define FIND_FUNCTION(name, arguments) FIND(name)
    LITERT_FUNCTIONS(FIND_FUNCTION)
    LITERT_DESTROYERS(FIND)
#undef FIND_FUNCTION
#undef FIND
    return passed(api.CreateEnvironment(0, NULL, &env), "CreateEnvironment", "load_failed", why);
}

/* From a file LiteRT reads without a look at its bounds, and a truncated one is a bus error in mid-load, or a load
 * without end. From memory it verifies the flatbuffer first: so the file is shown to it once in that way, mapped and
 * not copied. */
static bool litert_check_file(const char *model, struct failure *why) {
    int file = open(model, O_RDONLY | O_CLOEXEC);
    struct stat facts;
    if (file < 0 || fstat(file, &facts) != 0) {
        (void)fail(why, "unreadable_model", "%s: %s", model, strerror(errno));
        if (file >= 0) {
            (void)close(file);
        }
        return false;
    }
    size_t count = (size_t)facts.st_size;
    void *bytes = count == 0 ? MAP_FAILED : mmap(NULL, count, PROT_READ, MAP_PRIVATE, file, 0);
    (void)close(file);
    if (bytes == MAP_FAILED) {
        return fail(why, "unreadable_model", "%s: the file is empty or cannot be mapped", model);
    }
    handle checked = NULL;
    int status = api.CreateModelFromBuffer(env, bytes, count, &checked);
    if (status == 0) {
        api.DestroyModel(checked);
    }
    (void)munmap(bytes, count);
    return status == 0 ? true : fail(why, "unreadable_model", "%s is not a valid TFLite flatbuffer (LiteRT status %d)",
                                     model, status);
}

static bool litert_open(struct session *session, const char *model, const struct choice *choice,
                        struct failure *why) {
    static const char *const accelerators[] = {"cpu", "xnnpack", "builtin"};
    bool is_known = false;
    for (size_t index = 0; index < 3; index++) {
        is_known = is_known || strcmp(choice->accelerator, accelerators[index]) == 0;
    }
    if (!is_known) {
        return fail(why, "no_accelerator", "LiteRT has cpu, xnnpack, builtin here, not '%s'", choice->accelerator);
    }
    if (choice->option_count > 0) {
        return fail(why, "bad_setting", "LiteRT takes no options here, %s came", choice->options[0].key);
    }
    struct state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return fail(why, "out_of_memory", "no memory for a session");
    }
    session->state = state;
    bool is_open = compile(state, model, choice, why) && describe(session, state, why) &&
                   fix_batch(session, state, why) && make_buffers(session, state, why);
    if (!is_open) {
        litert_close(session);
    }
    return is_open;
}

/* `cpu` and `xnnpack` are the same configuration, XNNPACK first and built-in kernels for what it leaves; asked for as
 * `xnnpack`, nodes that it leaves count as a fallback. `builtin` is the built-in kernels alone. */
static bool litert_read_placement(struct session *session, const char *model, const struct choice *choice,
                                  struct failure *why) {
    struct state *state = session->state;
    struct placement *placement = &session->placement;
    *placement = (struct placement){.nodes_total = -1, .nodes_delegated = -1, .partitions = -1};
    handle signature = NULL, subgraph = NULL;
    size_t nodes = 0;
    bool is_fully = false;
    if (!passed(api.GetModelSignature(state->model, SIGNATURE, &signature), "GetModelSignature", "load_failed", why) ||
        !passed(api.GetSignatureSubgraph(signature, &subgraph), "GetSignatureSubgraph", "load_failed", why) ||
        !passed(api.GetNumSubgraphOps(subgraph, &nodes), "GetNumSubgraphOps", "load_failed", why) ||
        !passed(api.CompiledModelIsFullyAccelerated(state->compiled, &is_fully), "CompiledModelIsFullyAccelerated",
                "load_failed", why)) {
        return false;
    }
    bool is_builtin = strcmp(choice->accelerator, "builtin") == 0;
    if (is_builtin && is_fully && nodes > 0) {
        return fail(why, "no_accelerator", "built-in kernels were asked for, and a delegate took every node");
    }
    int64_t left = is_builtin ? (int64_t)nodes : is_fully ? 0 : count_left_nodes(model, choice);
    placement->nodes_total = (int64_t)nodes;
    if (left >= 0 && left <= placement->nodes_total) {
        placement_add(placement, "xnnpack", placement->nodes_total - left);
        placement_add(placement, "builtin", left);
    } else {
        left = -1;
    }
    placement->partitions = is_builtin ? 0 : -1;
    if (strcmp(choice->accelerator, "xnnpack") != 0) {
        placement->nodes_delegated = placement->nodes_total;
    } else if (left == 0) {
        placement->nodes_delegated = placement->nodes_total;
    } else {
        char reason[128] = "XNNPACK did not take every node; LiteRT does not say how many";
        if (left > 0) {
            (void)snprintf(reason, sizeof reason, "XNNPACK left %lld of %zu nodes", (long long)left, nodes);
            placement->nodes_delegated = placement->nodes_total - left;
        }
        placement->fallback_reason = strdup(reason);
    }
    return true;
}

static bool litert_set_input(struct session *session, size_t index, const void *bytes, size_t count,
                             struct failure *why) {
    struct state *state = session->state;
    handle buffer = state->input_buffers[state->inputs[index].place];
    void *memory = NULL;
    if (!passed(api.LockTensorBuffer(buffer, &memory, WRITE_BUFFER), "LockTensorBuffer", "run_failed", why)) {
        return false;
    }
    if (count > 0) {
        memcpy(memory, bytes, count);
    }
    return passed(api.UnlockTensorBuffer(buffer), "UnlockTensorBuffer", "run_failed", why);
}

static bool litert_invoke(void *opaque, struct failure *why) {
    struct state *state = opaque;
    int status = api.RunCompiledModel(state->compiled, SIGNATURE, state->input_count, state->input_buffers,
                                      state->output_count, state->output_buffers);
    return status == 0 ? true : passed(status, "RunCompiledModel", "run_failed", why);
}

static bool litert_read_output(struct session *session, size_t index,
                               bool (*take)(void *context, const void *bytes, size_t count), void *context,
                               struct failure *why) {
    struct state *state = session->state;
    struct slot *slot = &state->outputs[index];
    handle buffer = state->output_buffers[slot->place];
    void *memory = NULL;
    if (!passed(api.LockTensorBuffer(buffer, &memory, READ_BUFFER), "LockTensorBuffer", "run_failed", why)) {
        return false;
    }
    bool is_taken = take(context, memory, slot->bytes);
    bool is_unlocked = passed(api.UnlockTensorBuffer(buffer), "UnlockTensorBuffer", "run_failed", why);
    return is_unlocked && (is_taken || fail(why, "out_of_memory", "no memory for output %zu", index));
}

static bool litert_profile_start(struct session *session, struct failure *why) {
    struct state *state = session->state;
    return passed(api.CompiledModelGetProfiler(state->compiled, &state->profiler), "CompiledModelGetProfiler",
                  "run_failed", why) &&
           passed(api.StartProfiler(state->profiler), "StartProfiler", "run_failed", why);
}

/* A kind is one bit, a source one of three. */
static bool is_event(const struct event *event) {
    return event->name != NULL && event->kind > 0 && event->kind <= 1 << 8 &&
           (event->kind & (event->kind - 1)) == 0 && event->source >= 0 && event->source <= 2;
}

/* One JSON object a line for each operator of each inference, in the order in which they ended. */
static bool litert_profile_end(struct session *session, const char *path, struct failure *why) {
    struct state *state = session->state;
    int count = 0;
    if (!passed(api.StopProfiler(state->profiler), "StopProfiler", "run_failed", why) ||
        !passed(api.GetNumProfilerEvents(state->profiler, &count), "GetNumProfilerEvents", "run_failed", why)) {
        return false;
    }
    /* Twice the room: a library whose events are larger must not write beyond it before that is noticed. */
    struct event *events = calloc(2 * ((size_t)(count > 0 ? count : 0) + 1), sizeof *events);
    if (events == NULL) {
        return fail(why, "out_of_memory", "no memory for the profile");
    }
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool is_written =
        passed(api.GetProfilerEvents(state->profiler, count, events), "GetProfilerEvents", "run_failed", why) &&
        (file >= 0 || fail(why, "run_failed", "%s: %s", path, strerror(errno)));
    struct line line = {0};
    for (int index = 0; is_written && index < count; index++) {
        const struct event *event = &events[index];
        if (!is_event(event)) {
            is_written = fail(why, "unsupported_profile", "the events of this LiteRT have a form that is not known");
            break;
        }
        if ((event->kind & (OPERATOR_EVENT | DELEGATE_OPERATOR_EVENT | DELEGATE_PROFILED_EVENT)) == 0) {
            continue;
        }
        line_begin(&line, event->kind == OPERATOR_EVENT ? "op" : "delegate_op");
        line_text(&line, "name", event->name);
        line_integer(&line, "node", (int64_t)event->node);
        line_integer(&line, "start_us", (int64_t)event->start_us);
        line_integer(&line, "us", (int64_t)event->elapsed_us);
        line_send(&line, file);
    }
    line_free(&line);
    if (file >= 0) {
        (void)close(file);
    }
    free(events);
    return is_written;
}

static void litert_close(struct session *session) {
    struct state *state = session->state;
    if (state != NULL) {
        for (size_t index = 0; state->input_buffers != NULL && index < state->input_count; index++) {
            if (state->input_buffers[index] != NULL) {
                api.DestroyTensorBuffer(state->input_buffers[index]);
            }
        }
        for (size_t index = 0; state->output_buffers != NULL && index < state->output_count; index++) {
            if (state->output_buffers[index] != NULL) {
                api.DestroyTensorBuffer(state->output_buffers[index]);
            }
        }
        if (state->compiled != NULL) {
            api.DestroyCompiledModel(state->compiled);
        }
        if (state->model != NULL) {
            api.DestroyModel(state->model);
        }
        free(state->inputs);
        free(state->outputs);
        free(state->input_buffers);
        free(state->output_buffers);
        free(state->layouts);
        free(state);
    }
    session_free_description(session);
}

static void litert_unload_library(void) {
    if (env != NULL) {
        api.DestroyEnvironment(env);
        env = NULL;
    }
}

static bool compile(struct state *state, const char *model, const struct choice *choice, struct failure *why) {
    handle options = make_options(choice, why);
    if (options == NULL) {
        return false;
    }
    char said[4096];
    capture_begin();
    const char *step = "CreateModelFromFile";
    int status = api.CreateModelFromFile(env, model, &state->model);
    bool is_read = status == 0;
    if (is_read) {
        step = "CreateCompiledModel";
        status = api.CreateCompiledModel(env, state->model, options, &state->compiled);
    }
    if (status == 0) {
        /* Otherwise tensors are allocated, and an op that nobody knows is found, in the first inference only. */
        step = "GetCompiledModelOutputTensorLayouts";
        status = read_layouts(state);
    }
    capture_end(said, sizeof said);
    api.DestroyOptions(options);
    if (status == 0) {
        return true;
    }
    bool is_unknown_op = strstr(said, "ncountered unresolved custom op") != NULL ||
                         strstr(said, "ncountered an unresolved custom op") != NULL ||
                         strstr(said, "Didn't find op for builtin opcode") != NULL ||
                         strstr(said, "are not supported by this interpreter") != NULL;
    bool is_unreadable = !is_read || status == STATUS_FILE_IO || status == STATUS_INVALID_FLATBUFFER;
    const char *kind = is_unknown_op ? "unsupported_op" : is_unreadable ? "unreadable_model" : "load_failed";
    return fail(why, kind, "LiteRt%s returned status %d: %s", step, status, said);
}

/* Allocates the tensors, and says what shape the outputs have then. Returns a status. */
static int read_layouts(struct state *state) {
    handle signature = NULL, subgraph = NULL;
    int status = api.GetModelSignature(state->model, SIGNATURE, &signature);
    status = status != 0 ? status : api.GetSignatureSubgraph(signature, &subgraph);
    status = status != 0 ? status : api.GetNumSubgraphOutputs(subgraph, &state->layout_count);
    if (status != 0) {
        return status;
    }
    free(state->layouts);
    state->layouts = calloc(state->layout_count + 1, sizeof *state->layouts);
    if (state->layouts == NULL) {
        return STATUS_NO_MEMORY;
    }
    return api.GetCompiledModelOutputTensorLayouts(state->compiled, SIGNATURE, state->layout_count, state->layouts,
                                                   true);
}

static handle make_options(const struct choice *choice, struct failure *why) {
    handle options = NULL, processor = NULL;
    if (!passed(api.CreateOptions(&options), "CreateOptions", "load_failed", why)) {
        return NULL;
    }
    char *text = malloc(96);
    bool are_made = text != NULL;
    if (are_made) {
        (void)snprintf(text, 96, "num_threads = %d\n%s", choice->threads,
                       strcmp(choice->accelerator, "builtin") == 0 ? "kernel_mode = \"builtin\"\n" : "");
        are_made = passed(api.SetOptionsHardwareAccelerators(options, HARDWARE_CPU), "SetOptionsHardwareAccelerators",
                          "no_accelerator", why) &&
                   passed(api.CreateOpaqueOptions("xnnpack", text, free, &processor), "CreateOpaqueOptions",
                          "load_failed", why);
        if (processor == NULL) {
            free(text);
        }
        /* Takes the opaque options over, and the text with them. */
        are_made = are_made && passed(api.AddOpaqueOptions(options, processor), "AddOpaqueOptions", "load_failed", why);
    }
    are_made = are_made && (choice->profile == NULL || allow_profile(options, why));
    if (!are_made) {
        api.DestroyOptions(options);
        return NULL;
    }
    return options;
}

static bool allow_profile(handle options, struct failure *why) {
    handle profiling = NULL;
    char *text = strdup("enable_profiling = true\n");
    if (text == NULL) {
        return fail(why, "out_of_memory", "no memory for the options");
    }
    if (!passed(api.CreateOpaqueOptions("runtime_options_string", text, free, &profiling), "CreateOpaqueOptions",
                "load_failed", why)) {
        free(text);
        return false;
    }
    return passed(api.AddOpaqueOptions(options, profiling), "AddOpaqueOptions", "load_failed", why);
}

static bool describe(struct session *session, struct state *state, struct failure *why) {
    handle signature = NULL, subgraph = NULL;
    if (!passed(api.GetModelSignature(state->model, SIGNATURE, &signature), "GetModelSignature", "load_failed", why) ||
        !passed(api.GetSignatureSubgraph(signature, &subgraph), "GetSignatureSubgraph", "load_failed", why) ||
        !passed(api.GetNumSubgraphInputs(subgraph, &state->input_count), "GetNumSubgraphInputs", "load_failed", why) ||
        !passed(api.GetNumSubgraphOutputs(subgraph, &state->output_count), "GetNumSubgraphOutputs", "load_failed",
                why)) {
        state->input_count = state->output_count = 0;
        return false;
    }
    state->inputs = calloc(state->input_count + 1, sizeof *state->inputs);
    state->outputs = calloc(state->output_count + 1, sizeof *state->outputs);
    state->input_buffers = calloc(state->input_count + 1, sizeof *state->input_buffers);
    state->output_buffers = calloc(state->output_count + 1, sizeof *state->output_buffers);
    session->inputs = calloc(state->input_count + 1, sizeof *session->inputs);
    session->outputs = calloc(state->output_count + 1, sizeof *session->outputs);
    if (state->inputs == NULL || state->outputs == NULL || state->input_buffers == NULL ||
        state->output_buffers == NULL || session->inputs == NULL || session->outputs == NULL) {
        return fail(why, "out_of_memory", "no memory for the model's description");
    }
    session->input_count = state->input_count;
    session->output_count = state->output_count;
    return describe_side(signature, subgraph, true, state->inputs, session->inputs, state->input_count, why) &&
           describe_side(signature, subgraph, false, state->outputs, session->outputs, state->output_count, why);
}

static bool describe_side(handle signature, handle subgraph, bool is_input, struct slot *slots,
                          struct tensor *tensors, size_t count, struct failure *why) {
    for (size_t index = 0; index < count; index++) {
        struct slot *slot = &slots[index];
        int status = is_input ? api.GetSubgraphInput(subgraph, index, &slot->tensor)
                              : api.GetSubgraphOutput(subgraph, index, &slot->tensor);
        if (!passed(status, "GetSubgraphInput or Output", "load_failed", why)) {
            return false;
        }
        slot->place = count;
        for (size_t place = 0; place < count && slot->place == count; place++) {
            handle tensor = NULL;
            status = is_input ? api.GetSignatureInputTensorByIndex(signature, place, &tensor)
                              : api.GetSignatureOutputTensorByIndex(signature, place, &tensor);
            if (status == 0 && tensor == slot->tensor) {
                slot->place = place;
            }
        }
        if (slot->place == count) {
            return fail(why, "load_failed", "the model's signature does not have all of its inputs and outputs");
        }
        if (!describe_tensor(slot, &tensors[index], why)) {
            return false;
        }
    }
    return true;
}

static bool describe_tensor(struct slot *slot, struct tensor *tensor, struct failure *why) {
    static const struct {
        int element; /* LiteRtElementType, the numbers of TFLite's schema */
        const char *dtype;
        size_t bytes;
    } elements[] = {
        {1, "float32", 4}, {2, "int32", 4},    {3, "uint8", 1},    {4, "int64", 8},
        {6, "bool", 1},    {7, "int16", 2},    {9, "int8", 1},     {10, "float16", 2},
        {11, "float64", 8}, {13, "uint64", 8}, {16, "uint32", 4},  {17, "uint16", 2},
    };
    const char *name = "";
    int type = RANKED_TYPE, quantization_type = 0;
    if (!passed(api.GetTensorName(slot->tensor, &name), "GetTensorName", "load_failed", why) ||
        !passed(api.GetTensorTypeId(slot->tensor, &type), "GetTensorTypeId", "load_failed", why)) {
        return false;
    }
    tensor->name = strdup(name);
    if (type != RANKED_TYPE) {
        return fail(why, "unsupported_op", "%s has no fixed number of dimensions", name);
    }
    if (!passed(api.GetRankedTensorType(slot->tensor, &slot->type), "GetRankedTensorType", "load_failed", why)) {
        return false;
    }
    for (size_t index = 0; index < sizeof elements / sizeof *elements; index++) {
        if (elements[index].element == slot->type.element) {
            tensor->dtype = elements[index].dtype;
            tensor->item_bytes = elements[index].bytes;
        }
    }
    if (tensor->dtype == NULL) {
        return fail(why, "unsupported_op", "%s has elements of a type that this program does not know (%d)", name,
                    (int)slot->type.element);
    }
    tensor->rank = slot->type.rank_and_flags & 0x7f;
    if (tensor->rank > LITERT_MAX_RANK) {
        return fail(why, "unsupported_op", "%s has %zu dimensions", name, tensor->rank);
    }
    for (size_t axis = 0; axis < tensor->rank; axis++) {
        tensor->shape[axis] = slot->type.dimensions[axis] < 0 ? -1 : slot->type.dimensions[axis];
    }
    struct quantization quantization = {0};
    if (api.GetQuantizationTypeId(slot->tensor, &quantization_type) == 0 &&
        quantization_type == PER_TENSOR_QUANTIZATION &&
        api.GetPerTensorQuantization(slot->tensor, &quantization) == 0 && quantization.scale != 0) {
        tensor->is_quantized = true;
        tensor->scale = (double)quantization.scale;
        tensor->zero_point = quantization.zero_point;
    }
    return true;
}

/* A free batch dimension becomes 1, and the outputs follow. */
static bool fix_batch(struct session *session, struct state *state, struct failure *why) {
    bool any = false;
    for (size_t index = 0; index < session->input_count; index++) {
        struct tensor *tensor = &session->inputs[index];
        if (tensor->rank == 0 || tensor->shape[0] != -1) {
            continue;
        }
        tensor->shape[0] = 1;
        if (tensor_items(tensor, 0) < 0) {
            return fail(why, "wrong_input", "input '%s' has a dimension other than the first that is not fixed",
                        tensor->name);
        }
        struct slot *slot = &state->inputs[index];
        slot->type.dimensions[0] = 1;
        if (!passed(api.CompiledModelResizeInputTensor(state->compiled, SIGNATURE, slot->place, slot->type.dimensions,
                                                       tensor->rank),
                    "CompiledModelResizeInputTensor", "load_failed", why)) {
            return false;
        }
        any = true;
    }
    for (size_t index = 0; index < session->output_count; index++) {
        any = any || tensor_items(&session->outputs[index], 0) < 0;
    }
    if (!any) {
        return true;
    }
    if (!passed(read_layouts(state), "GetCompiledModelOutputTensorLayouts", "load_failed", why)) {
        return false;
    }
    for (size_t index = 0; index < session->output_count; index++) {
        struct slot *slot = &state->outputs[index];
        const struct layout *layout = &state->layouts[slot->place];
        struct tensor *tensor = &session->outputs[index];
        slot->type.rank_and_flags = layout->rank_and_flags;
        memcpy(slot->type.dimensions, layout->dimensions, sizeof layout->dimensions);
        memcpy(slot->type.strides, layout->strides, sizeof layout->strides);
        tensor->rank = layout->rank_and_flags & 0x7f;
        for (size_t axis = 0; axis < tensor->rank && axis < LITERT_MAX_RANK; axis++) {
            tensor->shape[axis] = layout->dimensions[axis];
        }
    }
    return true;
}

static bool make_buffers(struct session *session, struct state *state, struct failure *why) {
    for (size_t index = 0; index < session->input_count; index++) {
        if (!make_buffer(state, true, &state->inputs[index], &session->inputs[index], why)) {
            return false;
        }
    }
    for (size_t index = 0; index < session->output_count; index++) {
        if (!make_buffer(state, false, &state->outputs[index], &session->outputs[index], why)) {
            return false;
        }
    }
    return true;
}

static bool make_buffer(struct state *state, bool is_input, struct slot *slot, struct tensor *tensor,
                        struct failure *why) {
    int64_t items = tensor_items(tensor, 0);
    if (items < 0) {
        return fail(why, is_input ? "wrong_input" : "unsupported_op", "the size of %s '%s' is not fixed",
                    is_input ? "input" : "output", tensor->name);
    }
    slot->bytes = (size_t)items * tensor->item_bytes;
    handle requirements = NULL;
    handle *buffer = is_input ? &state->input_buffers[slot->place] : &state->output_buffers[slot->place];
    int status =
        is_input ? api.GetCompiledModelInputBufferRequirements(state->compiled, SIGNATURE, slot->place, &requirements)
                 : api.GetCompiledModelOutputBufferRequirements(state->compiled, SIGNATURE, slot->place, &requirements);
    return passed(status, "GetCompiledModelBufferRequirements", "load_failed", why) &&
           passed(api.CreateManagedTensorBufferFromRequirements(env, &slot->type, requirements, buffer),
                  "CreateManagedTensorBufferFromRequirements", "load_failed", why);
}

/* How many nodes the built-in kernels compute; -1 where it cannot be found out.
 *
 * Only a profile of one inference tells, and a model has to be compiled for it anew. That happens in a child process,
 * so that neither the memory nor the caches of what will be measured here are touched by it. */
static int64_t count_left_nodes(const char *model, const struct choice *choice) {
    int ends[2];
    if (pipe(ends) != 0) {
        return -1;
    }
    pid_t child = fork();
    if (child == 0) {
        enum { PATIENCE_S = 60 };
        (void)alarm(PATIENCE_S);
        int nowhere = open("/dev/null", O_WRONLY);
        (void)dup2(nowhere, STDOUT_FILENO);
        (void)dup2(nowhere, STDERR_FILENO);
        int64_t left = profile_left_nodes(model, choice);
        _exit(write(ends[1], &left, sizeof left) == (ssize_t)sizeof left ? 0 : 1);
    }
    (void)close(ends[1]);
    int64_t left = -1;
    if (child < 0 || read(ends[0], &left, sizeof left) != (ssize_t)sizeof left) {
        left = -1;
    }
    (void)close(ends[0]);
    if (child > 0) {
        (void)waitpid(child, NULL, 0);
    }
    return left;
}

/* In the child, which ends right afterwards: nothing is freed. */
static int64_t profile_left_nodes(const char *model, const struct choice *choice) {
    struct failure why;
    struct choice alone = *choice;
    alone.threads = 1;
    alone.profile = ""; /* the events stay in memory */
    handle options = make_options(&alone, &why), profiler = NULL;
    struct session session = {0};
    struct state *copy = calloc(1, sizeof *copy);
    const char *summary = NULL;
    if (options == NULL || copy == NULL) {
        return -1;
    }
    session.state = copy;
    bool is_profiled = api.CreateModelFromFile(env, model, &copy->model) == 0 &&
                       api.CreateCompiledModel(env, copy->model, options, &copy->compiled) == 0 &&
                       read_layouts(copy) == 0 && describe(&session, copy, &why) && fix_batch(&session, copy, &why) &&
                       make_buffers(&session, copy, &why) &&
                       api.CompiledModelGetProfiler(copy->compiled, &profiler) == 0 &&
                       api.StartProfiler(profiler) == 0 && litert_invoke(copy, &why) &&
                       api.StopProfiler(profiler) == 0 &&
                       api.GetProfileSummary(profiler, copy->compiled, &summary) == 0 && summary != NULL;
    return is_profiled ? count_builtin_rows(summary) : -1;
}

/* The first table of the profile has a row for each node that ran, with `[Builtin]:` and the node's number for those of
 * the built-in kernels. Text of another form is no count. Source: the summary of ai-edge-litert 2.3.0. */
static int64_t count_builtin_rows(const char *summary) {
    const char *table = strstr(summary, "= Run Order =");
    const char *end = table == NULL ? NULL : strstr(table, "= Top by Computation Time =");
    if (end == NULL || strstr(table, "[Name]") == NULL) {
        return -1;
    }
    int64_t rows = 0;
    static const char sign[] = "[Builtin]:";
    for (const char *row = strstr(table, sign); row != NULL && row < end; row = strstr(row + 1, sign)) {
        rows++;
    }
    return rows > 0 ? rows : -1;
}

static bool passed(int status, const char *step, const char *kind, struct failure *why) {
    return status == 0 ? true : fail(why, kind, "LiteRt%s returned status %d", step, status);
}

const struct runtime litert_runtime = {
    .name = "litert",
    .api = "CompiledModel, C API",
    .load_library = litert_load_library,
    .check_file = litert_check_file,
    .open = litert_open,
    .read_placement = litert_read_placement,
    .set_input = litert_set_input,
    .invoke = litert_invoke,
    .read_output = litert_read_output,
    .profile_start = litert_profile_start,
    .profile_end = litert_profile_end,
    .profile_format = "litert-events",
    .close = litert_close,
    .unload_library = litert_unload_library,
};

/* ONNX Runtime through its C API, inputs and outputs bound once.
 *
 * The API is a table of function pointers, got from the one exported symbol `OrtGetApiBase`. Its order is part of the
 * ABI: functions are only ever added at the end, and ONNX Runtime's own build asserts the place of the last function of
 * every version (onnxruntime_c_api.cc, "Size of version N API cannot change"). So the few functions needed here are
 * declared with their place, in place of a header of 8,000 lines; tests/deploy compares each place with the order of
 * the functions in ONNX Runtime's header.
 *
 * Not known: the level of graph optimization that a session really has (no function reads it back; the setter refuses
 * levels that the library does not know), and, before ONNX Runtime 1.24, which provider took which node. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime.h"

/* The newest API used, for the placement of nodes, and the oldest that has the rest. Source: `\since` in the header. */
#define API_WITH_PLACEMENT 24
#define API_LEAST 16

typedef void *ort; /* all of ONNX Runtime's objects are opaque here */
typedef void (*ort_function)(void);

/* place, result, name, arguments */
#define ORT_FUNCTIONS(USE)                                                                          \
    USE(1, int, GetErrorCode, (const void *status))                                                 \
    USE(2, const char *, GetErrorMessage, (const void *status))                                     \
    USE(3, ort, CreateEnv, (int severity, const char *name, ort *env))                              \
    USE(7, ort, CreateSession, (ort env, const char *path, ort options, ort *session))              \
    USE(10, ort, CreateSessionOptions, (ort *options))                                              \
    USE(14, ort, EnableProfiling, (ort options, const char *prefix))                                \
    USE(22, ort, SetSessionLogSeverityLevel, (ort options, int severity))                           \
    USE(23, ort, SetSessionGraphOptimizationLevel, (ort options, int level))                        \
    USE(24, ort, SetIntraOpNumThreads, (ort options, int threads))                                  \
    USE(25, ort, SetInterOpNumThreads, (ort options, int threads))                                  \
    USE(30, ort, SessionGetInputCount, (ort session, size_t *count))                                \
    USE(31, ort, SessionGetOutputCount, (ort session, size_t *count))                               \
    USE(33, ort, SessionGetInputTypeInfo, (ort session, size_t index, ort *type))                   \
    USE(34, ort, SessionGetOutputTypeInfo, (ort session, size_t index, ort *type))                  \
    USE(36, ort, SessionGetInputName, (ort session, size_t index, ort allocator, char **name))      \
    USE(37, ort, SessionGetOutputName, (ort session, size_t index, ort allocator, char **name))     \
    USE(48, ort, CreateTensorAsOrtValue,                                                            \
        (ort allocator, const int64_t *shape, size_t rank, int element, ort *value))                \
    USE(51, ort, GetTensorMutableData, (ort value, void **data))                                    \
    USE(55, ort, CastTypeInfoToTensorInfo, (ort type, ort *info))                                   \
    USE(60, ort, GetTensorElementType, (ort info, int *element))                                    \
    USE(61, ort, GetDimensionsCount, (ort info, size_t *rank))                                      \
    USE(62, ort, GetDimensions, (ort info, int64_t *shape, size_t rank))                            \
    USE(64, ort, GetTensorShapeElementCount, (ort info, size_t *count))                             \
    USE(65, ort, GetTensorTypeAndShape, (ort value, ort *info))                                     \
    USE(69, ort, CreateCpuMemoryInfo, (int allocator_type, int memory_type, ort *info))             \
    USE(76, ort, AllocatorFree, (ort allocator, void *memory))                                      \
    USE(78, ort, GetAllocatorWithDefaultOptions, (ort *allocator))                                  \
    USE(92, void, ReleaseEnv, (ort))                                                                \
    USE(93, void, ReleaseStatus, (ort))                                                             \
    USE(94, void, ReleaseMemoryInfo, (ort))                                                         \
    USE(95, void, ReleaseSession, (ort))                                                            \
    USE(96, void, ReleaseValue, (ort))                                                              \
    USE(98, void, ReleaseTypeInfo, (ort))                                                           \
    USE(99, void, ReleaseTensorTypeAndShapeInfo, (ort))                                             \
    USE(100, void, ReleaseSessionOptions, (ort))                                                    \
    USE(110, ort, SessionEndProfiling, (ort session, ort allocator, char **path))                   \
    USE(125, ort, GetAvailableProviders, (char ***names, int *count))                               \
    USE(126, ort, ReleaseAvailableProviders, (char **names, int count))                             \
    USE(130, ort, AddSessionConfigEntry, (ort options, const char *key, const char *value))         \
    USE(133, ort, RunWithBinding, (ort session, ort run_options, ort binding))                      \
    USE(134, ort, CreateIoBinding, (ort session, ort *binding))                                     \
    USE(135, void, ReleaseIoBinding, (ort))                                                         \
    USE(136, ort, BindInput, (ort binding, const char *name, ort value))                            \
    USE(137, ort, BindOutput, (ort binding, const char *name, ort value))                           \
    USE(138, ort, BindOutputToDevice, (ort binding, const char *name, ort memory))                  \
    USE(140, ort, GetBoundOutputValues, (ort binding, ort allocator, ort **values, size_t *count))  \
    USE(170, ort, SessionOptionsAppendExecutionProvider_TensorRT_V2, (ort options, ort settings))   \
    USE(171, ort, CreateTensorRTProviderOptions, (ort *settings))                                   \
    USE(172, ort, UpdateTensorRTProviderOptions,                                                    \
        (ort settings, const char *const *keys, const char *const *values, size_t count))           \
    USE(174, void, ReleaseTensorRTProviderOptions, (ort settings))                                  \
    USE(204, ort, SessionOptionsAppendExecutionProvider_CUDA_V2, (ort options, ort settings))       \
    USE(205, ort, CreateCUDAProviderOptions, (ort *settings))                                       \
    USE(206, ort, UpdateCUDAProviderOptions,                                                        \
        (ort settings, const char *const *keys, const char *const *values, size_t count))           \
    USE(208, void, ReleaseCUDAProviderOptions, (ort settings))                                      \
    USE(216, ort, SessionOptionsAppendExecutionProvider,                                            \
        (ort options, const char *name, const char *const *keys, const char *const *values, size_t count))

/* Of API_WITH_PLACEMENT; the table is shorter in an older library. */
#define ORT_PLACEMENT_FUNCTIONS(USE)                                                                \
    USE(407, ort, Session_GetEpGraphAssignmentInfo, (ort session, const ort **groups, size_t *count)) \
    USE(408, ort, EpAssignedSubgraph_GetEpName, (ort group, const char **name))                     \
    USE(409, ort, EpAssignedSubgraph_GetNodes, (ort group, const ort **nodes, size_t *count))

struct api_base {
    const ort_function *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

static struct api {
#define DECLARE(place, result, name, arguments) result(*name) arguments;
    ORT_FUNCTIONS(DECLARE)
    ORT_PLACEMENT_FUNCTIONS(DECLARE)
#undef DECLARE
} api;

static void *library;
static bool has_placement;
static ort env;

struct state {
    ort session;
    ort binding;
    ort allocator; /* the library's own, never freed */
    ort *inputs;   /* bound; their memory is the library's */
    void **input_memory;
    ort *outputs; /* bound, or NULL where the runtime alone knows the size and allocates in each run */
    char *provider;
};

/* ONNXTensorElementDataType: the place is the value. */
static const struct element {
    const char *dtype;
    size_t bytes;
} ELEMENTS[] = {
    {NULL, 0},      {"float32", 4}, {"uint8", 1}, {"int8", 1},    {"uint16", 2},  {"int16", 2},  {"int32", 4},
    {"int64", 8},   {NULL, 0},      {"bool", 1},  {"float16", 2}, {"float64", 8}, {"uint32", 4}, {"uint64", 8},
};

/* A provider's own options. */
struct settings {
    const char **keys;
    const char **values;
    size_t count;
};

/* What CUDA and TensorRT have each of their own. */
struct nvidia {
    ort (*create)(ort *own);
    ort (*update)(ort own, const char *const *keys, const char *const *values, size_t count);
    ort (*append)(ort options, ort own);
    void (*release)(ort own);
};

/* OrtErrorCode. */
enum { NO_SUCHFILE = 3, NO_MODEL = 4, INVALID_PROTOBUF = 7, NOT_IMPLEMENTED = 9, INVALID_GRAPH = 10 };

static bool make_options(const struct choice *choice, const char *provider, ort *options, struct failure *why);
static bool add_provider(ort options, const struct choice *choice, const char *provider, struct failure *why);
static bool append_by_name(ort options, const char *provider, const struct settings *settings, struct failure *why);
static bool append_nnapi(ort options, const struct settings *settings, struct failure *why);
static bool append_cuda(ort options, const struct settings *settings, struct failure *why);
static bool append_tensorrt(ort options, const struct settings *settings, struct failure *why);
static bool append_nvidia(ort options, const struct nvidia *provider, const struct settings *settings,
                          struct failure *why);
static char *find_provider(const char *accelerator, struct failure *why);
static bool describe(struct session *session, struct state *state, struct failure *why);
static bool describe_tensor(struct state *state, bool is_input, size_t index, struct tensor *tensor,
                            struct failure *why);
static bool bind_tensors(struct session *session, struct state *state, struct failure *why);
static int element_of(const char *dtype);
static size_t short_length(const char *provider);
static bool passed(ort status, const char *kind, struct failure *why);
static void onnxruntime_close(struct session *session);

static bool onnxruntime_load_library(const char *path, char version[64], struct failure *why) {
    /* Its Linux builds otherwise write into the home folder and open connections while something is being timed. */
    (void)setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return fail(why, "missing_tool", "%s", dlerror());
    }
    void *symbol = dlsym(library, "OrtGetApiBase");
    if (symbol == NULL) {
        return fail(why, "missing_tool", "%s is not an ONNX Runtime: it does not export OrtGetApiBase", path);
    }
    const struct api_base *(*get_base)(void);
    memcpy(&get_base, &symbol, sizeof get_base);
    const struct api_base *base = get_base();
    (void)snprintf(version, 64, "%s", base->get_version());
    int minor = 0;
    (void)sscanf(version, "%*d.%d", &minor); /* asking for an API it lacks makes the library complain */
    const ort_function *table = minor >= API_WITH_PLACEMENT ? base->get_api(API_WITH_PLACEMENT) : NULL;
    has_placement = table != NULL;
    if (table == NULL) {
        table = base->get_api(API_LEAST);
    }
    if (table == NULL) {
        return fail(why, "missing_tool", "ONNX Runtime %s is too old: this program needs 1.%d", version, API_LEAST);
    }
#define BIND(place, result, name, arguments) api.name = (result(*) arguments)table[place];
    ORT_FUNCTIONS(BIND)
    if (has_placement) {
        ORT_PLACEMENT_FUNCTIONS(BIND)
    }
#undef BIND
    enum { ERRORS_ONLY = 3 };
    return passed(api.CreateEnv(ERRORS_ONLY, "bench", &env), "load_failed", why);
}

static bool onnxruntime_open(struct session *session, const char *model, const struct choice *choice,
                             struct failure *why) {
    char *provider = find_provider(choice->accelerator, why);
    if (provider == NULL) {
        return false;
    }
    ort options = NULL;
    struct state *state = calloc(1, sizeof *state);
    if (state == NULL || !make_options(choice, provider, &options, why)) {
        free(state);
        free(provider);
        return state == NULL ? fail(why, "out_of_memory", "no memory for a session") : false;
    }
    state->provider = provider;
    session->state = state;
    session->graph_optimization = NULL; /* what was asked is in meta; no function reads back what was done */
    ort status = api.CreateSession(env, model, options, &state->session);
    api.ReleaseSessionOptions(options);
    bool is_open = passed(status, NULL, why) &&
                   passed(api.GetAllocatorWithDefaultOptions(&state->allocator), "load_failed", why) &&
                   describe(session, state, why) && bind_tensors(session, state, why);
    if (!is_open) {
        onnxruntime_close(session);
    }
    return is_open;
}

/* Counts nodes as they were when providers took them, after graph-level optimization. */
static bool onnxruntime_read_placement(struct session *session, const char *model, const struct choice *choice,
                                       struct failure *why) {
    (void)model;
    (void)choice;
    struct state *state = session->state;
    struct placement *placement = &session->placement;
    *placement = (struct placement){.nodes_total = -1, .nodes_delegated = -1, .partitions = -1};
    if (!has_placement) {
        return true;
    }
    const ort *groups = NULL;
    size_t count = 0;
    if (!passed(api.Session_GetEpGraphAssignmentInfo(state->session, &groups, &count), "load_failed", why)) {
        return false;
    }
    placement->nodes_total = placement->nodes_delegated = 0;
    int64_t partitions = 0;
    for (size_t index = 0; index < count; index++) {
        const char *name = NULL;
        const ort *nodes = NULL;
        size_t node_count = 0;
        if (!passed(api.EpAssignedSubgraph_GetEpName(groups[index], &name), "load_failed", why) ||
            !passed(api.EpAssignedSubgraph_GetNodes(groups[index], &nodes, &node_count), "load_failed", why)) {
            return false;
        }
        bool is_asked = strcmp(name, state->provider) == 0;
        placement_add(placement, name, (int64_t)node_count);
        placement->nodes_total += (int64_t)node_count;
        placement->nodes_delegated += is_asked ? (int64_t)node_count : 0;
        partitions += is_asked;
    }
    if (strcmp(state->provider, "CPUExecutionProvider") != 0) {
        placement->partitions = partitions;
    }
    int64_t left = placement->nodes_total - placement->nodes_delegated;
    if (left > 0) {
        char reason[256];
        (void)snprintf(reason, sizeof reason, "%s did not take %lld of %lld nodes", state->provider, (long long)left,
                       (long long)placement->nodes_total);
        placement->fallback_reason = strdup(reason);
    }
    return true;
}

static bool onnxruntime_set_input(struct session *session, size_t index, const void *bytes, size_t count,
                                  struct failure *why) {
    (void)why;
    struct state *state = session->state;
    if (count > 0) {
        memcpy(state->input_memory[index], bytes, count);
    }
    return true;
}

static bool onnxruntime_invoke(void *opaque, struct failure *why) {
    struct state *state = opaque;
    ort status = api.RunWithBinding(state->session, NULL, state->binding);
    return status == NULL ? true : passed(status, "run_failed", why);
}

static bool onnxruntime_read_output(struct session *session, size_t index,
                                    bool (*take)(void *context, const void *bytes, size_t count), void *context,
                                    struct failure *why) {
    struct state *state = session->state;
    ort *values = NULL;
    size_t count = 0;
    if (!passed(api.GetBoundOutputValues(state->binding, state->allocator, &values, &count), "run_failed", why)) {
        return false;
    }
    ort info = NULL;
    size_t items = 0;
    void *data = NULL;
    bool is_read = index < count && passed(api.GetTensorTypeAndShape(values[index], &info), "run_failed", why) &&
                   passed(api.GetTensorShapeElementCount(info, &items), "run_failed", why) &&
                   passed(api.GetTensorMutableData(values[index], &data), "run_failed", why) &&
                   (take(context, data, items * session->outputs[index].item_bytes) ||
                    fail(why, "out_of_memory", "no memory for output %s", session->outputs[index].name));
    if (info != NULL) {
        api.ReleaseTensorTypeAndShapeInfo(info);
    }
    for (size_t each = 0; each < count; each++) {
        api.ReleaseValue(values[each]);
    }
    if (values != NULL) {
        (void)passed(api.AllocatorFree(state->allocator, values), "run_failed", why);
    }
    return is_read;
}

/* It has been taking times since the session was made: who reads the file takes the last inferences. */
static bool onnxruntime_profile_start(struct session *session, struct failure *why) {
    (void)session;
    (void)why;
    return true;
}

/* It writes a file whose name ends in the time of day. */
static bool onnxruntime_profile_end(struct session *session, const char *path, struct failure *why) {
    struct state *state = session->state;
    char *written = NULL;
    if (!passed(api.SessionEndProfiling(state->session, state->allocator, &written), "run_failed", why)) {
        return false;
    }
    bool is_named = rename(written, path) == 0;
    if (!is_named) {
        (void)fail(why, "run_failed", "%s cannot be renamed: %s", written, strerror(errno));
    }
    return passed(api.AllocatorFree(state->allocator, written), "run_failed", why) && is_named;
}

static void onnxruntime_close(struct session *session) {
    struct state *state = session->state;
    if (state != NULL) {
        if (state->binding != NULL) {
            api.ReleaseIoBinding(state->binding);
        }
        for (size_t index = 0; state->inputs != NULL && index < session->input_count; index++) {
            api.ReleaseValue(state->inputs[index]);
        }
        for (size_t index = 0; state->outputs != NULL && index < session->output_count; index++) {
            api.ReleaseValue(state->outputs[index]);
        }
        if (state->session != NULL) {
            api.ReleaseSession(state->session);
        }
        free(state->inputs);
        free(state->input_memory);
        free(state->outputs);
        free(state->provider);
        free(state);
    }
    session_free_description(session);
}

static void onnxruntime_unload_library(void) {
    if (env != NULL) {
        api.ReleaseEnv(env);
        env = NULL;
    }
    /* The library stays mapped: its threads and exit handlers may outlive a dlclose. */
}

static bool make_options(const struct choice *choice, const char *provider, ort *options, struct failure *why) {
    static const struct {
        const char *name;
        int value;
    } levels[] = {{"none", 0}, {"basic", 1}, {"extended", 2}, {"layout", 3}, {"all", 99}};
    int level = -1;
    for (size_t index = 0; index < sizeof levels / sizeof *levels; index++) {
        level = strcmp(levels[index].name, choice->graph_optimization) == 0 ? levels[index].value : level;
    }
    if (level < 0) {
        return fail(why, "bad_setting", "graph_optimization is one of none, basic, extended, layout, all, not '%s'",
                    choice->graph_optimization);
    }
    enum { ERRORS_ONLY = 3 };
    bool are_made =
        passed(api.CreateSessionOptions(options), "load_failed", why) &&
        passed(api.SetIntraOpNumThreads(*options, choice->threads), "bad_setting", why) &&
        passed(api.SetInterOpNumThreads(*options, 1), "bad_setting", why) &&
        passed(api.SetSessionLogSeverityLevel(*options, ERRORS_ONLY), "bad_setting", why) &&
        passed(api.SetSessionGraphOptimizationLevel(*options, level), "bad_setting", why);
    if (are_made && has_placement) {
        /* Without this entry the runtime forgets which provider took which node. */
        are_made = passed(api.AddSessionConfigEntry(*options, "session.record_ep_graph_assignment_info", "1"),
                          "bad_setting", why);
    }
    for (size_t index = 0; are_made && index < choice->option_count; index++) {
        const struct option *option = &choice->options[index];
        /* The session's settings have dotted names ("session.x"); a provider's never do. */
        if (strchr(option->key, '.') != NULL) {
            are_made = passed(api.AddSessionConfigEntry(*options, option->key, option->value), "bad_setting", why);
        }
    }
    if (are_made && choice->profile != NULL) {
        are_made = passed(api.EnableProfiling(*options, choice->profile), "bad_setting", why);
    }
    are_made = are_made && add_provider(*options, choice, provider, why);
    if (!are_made && *options != NULL) {
        api.ReleaseSessionOptions(*options);
        *options = NULL;
    }
    return are_made;
}

/* The CPU provider is always there, and takes what is left. */
static bool add_provider(ort options, const struct choice *choice, const char *provider, struct failure *why) {
    const char **keys = calloc(2 * choice->option_count + 1, sizeof *keys);
    if (keys == NULL) {
        return fail(why, "out_of_memory", "no memory for the options");
    }
    const char **values = keys + choice->option_count;
    size_t count = 0;
    for (size_t index = 0; index < choice->option_count; index++) {
        if (strchr(choice->options[index].key, '.') == NULL) {
            keys[count] = choice->options[index].key;
            values[count++] = choice->options[index].value;
        }
    }
    static const struct {
        const char *provider;
        bool (*append)(ort options, const struct settings *settings, struct failure *why);
    } with_a_function_of_their_own[] = {
        {"NnapiExecutionProvider", append_nnapi},
        {"CUDAExecutionProvider", append_cuda},
        {"TensorrtExecutionProvider", append_tensorrt},
    };
    struct settings settings = {keys, values, count};
    bool is_added;
    if (strcmp(provider, "CPUExecutionProvider") == 0) {
        is_added = count == 0 || fail(why, "bad_setting", "the CPU provider takes no options, %s came", keys[0]);
    } else {
        bool (*append)(ort, const struct settings *, struct failure *) = NULL;
        for (size_t index = 0; index < sizeof with_a_function_of_their_own / sizeof *with_a_function_of_their_own;
             index++) {
            if (strcmp(with_a_function_of_their_own[index].provider, provider) == 0) {
                append = with_a_function_of_their_own[index].append;
            }
        }
        is_added = append != NULL ? append(options, &settings, why) : append_by_name(options, provider, &settings, why);
    }
    free(keys);
    return is_added;
}

static bool append_by_name(ort options, const char *provider, const struct settings *settings, struct failure *why) {
    /* By its full name, by the short one ("CoreML"), and by that in capitals ("XNNPACK"): releases differ. */
    char name[64], capitals[64];
    (void)snprintf(name, sizeof name, "%.*s", (int)short_length(provider), provider);
    for (size_t index = 0; index < sizeof capitals; index++) {
        capitals[index] = (char)(name[index] >= 'a' && name[index] <= 'z' ? name[index] - 'a' + 'A' : name[index]);
    }
    const char *names[] = {provider, name, capitals};
    bool is_added = false;
    for (size_t index = 0; !is_added && index < 3; index++) {
        is_added = passed(api.SessionOptionsAppendExecutionProvider(options, names[index], settings->keys,
                                                                    settings->values, settings->count),
                          "no_accelerator", why);
    }
    return is_added;
}

/* Its options are the bits of one number, and its function a symbol of the library. Source:
 * nnapi_provider_factory.h. */
static bool append_nnapi(ort options, const struct settings *settings, struct failure *why) {
    static const struct {
        const char *name;
        uint32_t bit;
    } bits[] = {{"use_fp16", 1}, {"use_nchw", 2}, {"cpu_disabled", 4}, {"cpu_only", 8}};
    uint32_t flags = 0;
    for (size_t index = 0; index < settings->count; index++) {
        uint32_t bit = 0;
        for (size_t known = 0; known < sizeof bits / sizeof *bits; known++) {
            bit = strcasecmp(bits[known].name, settings->keys[index]) == 0 ? bits[known].bit : bit;
        }
        bool is_on = strcmp(settings->values[index], "1") == 0;
        if (bit == 0 || (!is_on && strcmp(settings->values[index], "0") != 0)) {
            return fail(why, "bad_setting",
                        "NNAPI takes use_fp16, use_nchw, cpu_disabled and cpu_only, each true or false; %s = %s came",
                        settings->keys[index], settings->values[index]);
        }
        flags |= is_on ? bit : 0;
    }
    void *symbol = dlsym(library, "OrtSessionOptionsAppendExecutionProvider_Nnapi");
    if (symbol == NULL) {
        return fail(why, "no_accelerator", "this ONNX Runtime names NNAPI, and does not export its function");
    }
    ort (*append)(ort options, uint32_t flags);
    memcpy(&append, &symbol, sizeof append);
    return passed(append(options, flags), "no_accelerator", why);
}

static bool append_cuda(ort options, const struct settings *settings, struct failure *why) {
    const struct nvidia cuda = {api.CreateCUDAProviderOptions, api.UpdateCUDAProviderOptions,
                                api.SessionOptionsAppendExecutionProvider_CUDA_V2, api.ReleaseCUDAProviderOptions};
    return append_nvidia(options, &cuda, settings, why);
}

static bool append_tensorrt(ort options, const struct settings *settings, struct failure *why) {
    const struct nvidia tensorrt = {api.CreateTensorRTProviderOptions, api.UpdateTensorRTProviderOptions,
                                    api.SessionOptionsAppendExecutionProvider_TensorRT_V2,
                                    api.ReleaseTensorRTProviderOptions};
    return append_nvidia(options, &tensorrt, settings, why);
}

static bool append_nvidia(ort options, const struct nvidia *provider, const struct settings *settings,
                          struct failure *why) {
    ort own = NULL;
    bool is_added =
        passed(provider->create(&own), "no_accelerator", why) &&
        passed(provider->update(own, settings->keys, settings->values, settings->count), "bad_setting", why) &&
        passed(provider->append(options, own), "no_accelerator", why);
    if (own != NULL) {
        provider->release(own);
    }
    return is_added;
}

/* The provider's full name, from a name as people write it: cpu, coreml, XnnpackExecutionProvider. */
static char *find_provider(const char *accelerator, struct failure *why) {
    char **names = NULL;
    int count = 0;
    if (!passed(api.GetAvailableProviders(&names, &count), "load_failed", why)) {
        return NULL;
    }
    char *found = NULL;
    char known[1024] = "";
    size_t wanted = short_length(accelerator);
    for (int index = 0; index < count; index++) {
        size_t length = short_length(names[index]);
        if (found == NULL && length == wanted && strncasecmp(names[index], accelerator, length) == 0) {
            found = strdup(names[index]);
        }
        size_t used = strlen(known);
        (void)snprintf(known + used, sizeof known - used, "%s%.*s", used > 0 ? ", " : "", (int)length, names[index]);
    }
    (void)passed(api.ReleaseAvailableProviders(names, count), "load_failed", why);
    if (found == NULL) {
        (void)fail(why, "no_accelerator", "this ONNX Runtime has the providers %s, not '%s'", known, accelerator);
    }
    return found;
}

static bool describe(struct session *session, struct state *state, struct failure *why) {
    if (!passed(api.SessionGetInputCount(state->session, &session->input_count), "load_failed", why) ||
        !passed(api.SessionGetOutputCount(state->session, &session->output_count), "load_failed", why)) {
        return false;
    }
    session->inputs = calloc(session->input_count + 1, sizeof *session->inputs);
    session->outputs = calloc(session->output_count + 1, sizeof *session->outputs);
    if (session->inputs == NULL || session->outputs == NULL) {
        session->input_count = session->inputs == NULL ? 0 : session->input_count;
        session->output_count = session->outputs == NULL ? 0 : session->output_count;
        return fail(why, "out_of_memory", "no memory for the model's description");
    }
    for (size_t index = 0; index < session->input_count; index++) {
        if (!describe_tensor(state, true, index, &session->inputs[index], why)) {
            return false;
        }
    }
    for (size_t index = 0; index < session->output_count; index++) {
        if (!describe_tensor(state, false, index, &session->outputs[index], why)) {
            return false;
        }
    }
    return true;
}

static bool describe_tensor(struct state *state, bool is_input, size_t index, struct tensor *tensor,
                            struct failure *why) {
    char *name = NULL;
    ort type = NULL, info = NULL;
    ort status = is_input ? api.SessionGetInputName(state->session, index, state->allocator, &name)
                          : api.SessionGetOutputName(state->session, index, state->allocator, &name);
    if (!passed(status, "load_failed", why)) {
        return false;
    }
    tensor->name = strdup(name);
    (void)passed(api.AllocatorFree(state->allocator, name), "load_failed", why);
    status = is_input ? api.SessionGetInputTypeInfo(state->session, index, &type)
                      : api.SessionGetOutputTypeInfo(state->session, index, &type);
    if (!passed(status, "load_failed", why)) {
        return false;
    }
    int element = 0;
    bool is_known = passed(api.CastTypeInfoToTensorInfo(type, &info), "load_failed", why);
    if (is_known && info == NULL) {
        is_known = fail(why, "unsupported_op", "%s is not a tensor", tensor->name);
    }
    is_known = is_known && passed(api.GetTensorElementType(info, &element), "load_failed", why) &&
               passed(api.GetDimensionsCount(info, &tensor->rank), "load_failed", why);
    if (is_known && tensor->rank > MAX_RANK) {
        is_known = fail(why, "unsupported_op", "%s has %zu dimensions", tensor->name, tensor->rank);
    }
    is_known = is_known && passed(api.GetDimensions(info, tensor->shape, tensor->rank), "load_failed", why);
    api.ReleaseTypeInfo(type);
    if (!is_known) {
        return false;
    }
    if (element < 0 || (size_t)element >= sizeof ELEMENTS / sizeof *ELEMENTS || ELEMENTS[element].dtype == NULL) {
        return fail(why, "unsupported_op", "%s has elements of a type that this program does not know (%d)",
                    tensor->name, element);
    }
    tensor->dtype = ELEMENTS[element].dtype;
    tensor->item_bytes = ELEMENTS[element].bytes;
    for (size_t axis = 0; axis < tensor->rank; axis++) {
        if (tensor->shape[axis] < 0) {
            tensor->shape[axis] = axis == 0 ? 1 : -1;
        }
    }
    return true;
}

static bool bind_tensors(struct session *session, struct state *state, struct failure *why) {
    state->inputs = calloc(session->input_count + 1, sizeof *state->inputs);
    state->input_memory = calloc(session->input_count + 1, sizeof *state->input_memory);
    state->outputs = calloc(session->output_count + 1, sizeof *state->outputs);
    if (state->inputs == NULL || state->input_memory == NULL || state->outputs == NULL) {
        return fail(why, "out_of_memory", "no memory for the inputs and outputs");
    }
    if (!passed(api.CreateIoBinding(state->session, &state->binding), "load_failed", why)) {
        return false;
    }
    for (size_t index = 0; index < session->input_count; index++) {
        const struct tensor *tensor = &session->inputs[index];
        if (tensor_items(tensor, 0) < 0) {
            return fail(why, "wrong_input", "input '%s' has a dimension other than the first that is not fixed",
                        tensor->name);
        }
        if (!passed(api.CreateTensorAsOrtValue(state->allocator, tensor->shape, tensor->rank,
                                               element_of(tensor->dtype), &state->inputs[index]),
                    "load_failed", why) ||
            !passed(api.GetTensorMutableData(state->inputs[index], &state->input_memory[index]), "load_failed", why) ||
            !passed(api.BindInput(state->binding, tensor->name, state->inputs[index]), "load_failed", why)) {
            return false;
        }
    }
    ort memory = NULL;
    enum { DEVICE_ALLOCATOR = 0, DEFAULT_MEMORY = 0 };
    if (!passed(api.CreateCpuMemoryInfo(DEVICE_ALLOCATOR, DEFAULT_MEMORY, &memory), "load_failed", why)) {
        return false;
    }
    bool are_bound = true;
    for (size_t index = 0; are_bound && index < session->output_count; index++) {
        const struct tensor *tensor = &session->outputs[index];
        if (tensor_items(tensor, 0) <= 0) {
            are_bound = passed(api.BindOutputToDevice(state->binding, tensor->name, memory), "load_failed", why);
            continue;
        }
        are_bound = passed(api.CreateTensorAsOrtValue(state->allocator, tensor->shape, tensor->rank,
                                                      element_of(tensor->dtype), &state->outputs[index]),
                           "load_failed", why) &&
                    passed(api.BindOutput(state->binding, tensor->name, state->outputs[index]), "load_failed", why);
    }
    api.ReleaseMemoryInfo(memory);
    return are_bound;
}

static int element_of(const char *dtype) {
    for (size_t index = 0; index < sizeof ELEMENTS / sizeof *ELEMENTS; index++) {
        if (ELEMENTS[index].dtype != NULL && strcmp(ELEMENTS[index].dtype, dtype) == 0) {
            return (int)index;
        }
    }
    return 0;
}

static size_t short_length(const char *provider) {
    static const char suffix[] = "ExecutionProvider";
    size_t length = strlen(provider), tail = sizeof suffix - 1;
    return length > tail && strcmp(provider + length - tail, suffix) == 0 ? length - tail : length;
}

/* Frees a status; false where it is an error. Without a `kind` the error's code says it. */
static bool passed(ort status, const char *kind, struct failure *why) {
    if (status == NULL) {
        return true;
    }
    const char *text = api.GetErrorMessage(status);
    int code = api.GetErrorCode(status);
    if (kind == NULL) {
        bool is_unknown_op = code == NOT_IMPLEMENTED || strstr(text, "is not a registered function/op") != NULL ||
                             strstr(text, "No Op registered for") != NULL;
        bool is_unreadable = code == INVALID_PROTOBUF || code == INVALID_GRAPH || code == NO_SUCHFILE ||
                             code == NO_MODEL || strstr(text, "No graph was found in the protobuf") != NULL;
        kind = is_unknown_op ? "unsupported_op" : is_unreadable ? "unreadable_model" : "load_failed";
    }
    (void)fail(why, kind, "%s", text);
    api.ReleaseStatus(status);
    return false;
}

const struct runtime onnxruntime_runtime = {
    .name = "onnxruntime",
    .api = "OrtSession, C API",
    .load_library = onnxruntime_load_library,
    .open = onnxruntime_open,
    .read_placement = onnxruntime_read_placement,
    .set_input = onnxruntime_set_input,
    .invoke = onnxruntime_invoke,
    .read_output = onnxruntime_read_output,
    .profile_start = onnxruntime_profile_start,
    .profile_end = onnxruntime_profile_end,
    .profile_format = "onnxruntime-trace",
    .close = onnxruntime_close,
    .unload_library = onnxruntime_unload_library,
};

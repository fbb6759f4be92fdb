/* A LiteRT of which nothing is real: one input and one output of four floats, out = 2 * in.
 *
 * FAULT, a number given when it is compiled, says what it does wrong, and RUNS_BEFORE after how many runs. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOTHING, CRASH_IN_LOAD, REFUSE_IN_LOAD, CRASH_IN_RUN, HANG_IN_RUN, EXIT_IN_RUN, ERROR_IN_RUN, DRIFT, PRINT, NAN_OUT };

#ifndef FAULT
#define FAULT NOTHING
#endif
#ifndef RUNS_BEFORE
#define RUNS_BEFORE 20
#endif

typedef void *handle;

static char thing; /* what every handle points at */
static float input[4], output[4];
static char input_tensor, output_tensor, input_buffer, output_buffer;
static long runs;

static int give(handle *into) {
    *into = &thing;
    return 0;
}

static void crash(void) { abort(); }

int LiteRtCreateEnvironment(int count, const void *options, handle *env) { return give(env); }
int LiteRtCreateModelFromFile(handle env, const char *path, handle *model) { return give(model); }
int LiteRtCreateModelFromBuffer(handle env, const void *bytes, size_t count, handle *model) { return give(model); }
int LiteRtCreateOptions(handle *options) { return give(options); }
int LiteRtSetOptionsHardwareAccelerators(handle options, int accelerators) { return 0; }
int LiteRtAddOpaqueOptions(handle options, handle added) { return 0; }
int LiteRtCompiledModelIsFullyAccelerated(handle compiled, bool *fully) {
    *fully = true;
    return 0;
}
int LiteRtCompiledModelResizeInputTensor(handle c, size_t s, size_t i, const int *shape, size_t rank) { return 0; }
int LiteRtGetCompiledModelOutputTensorLayouts(handle c, size_t s, size_t n, void *l, bool update) { return 0; }
int LiteRtGetCompiledModelInputBufferRequirements(handle c, size_t s, size_t i, handle *r) {
    *r = &input_buffer;
    return 0;
}
int LiteRtGetCompiledModelOutputBufferRequirements(handle c, size_t s, size_t i, handle *r) {
    *r = &output_buffer;
    return 0;
}
int LiteRtCompiledModelGetProfiler(handle compiled, handle *profiler) { return 1; }
int LiteRtStartProfiler(handle profiler) { return 1; }
int LiteRtStopProfiler(handle profiler) { return 1; }
int LiteRtGetNumProfilerEvents(handle profiler, int *count) { return 1; }
int LiteRtGetProfilerEvents(handle profiler, int count, void *events) { return 1; }
int LiteRtGetProfileSummary(handle profiler, handle compiled, const char **summary) { return 1; }
int LiteRtUnlockTensorBuffer(handle buffer) { return 0; }
int LiteRtGetModelSignature(handle model, size_t index, handle *signature) { return give(signature); }
int LiteRtGetSignatureSubgraph(handle signature, handle *subgraph) { return give(subgraph); }
int LiteRtGetTensorName(handle tensor, const char **name) {
    *name = tensor == &input_tensor ? "x" : "y";
    return 0;
}
int LiteRtGetTensorTypeId(handle tensor, int *type) {
    *type = 0;
    return 0;
}
int LiteRtGetQuantizationTypeId(handle tensor, int *type) {
    *type = 0;
    return 0;
}
int LiteRtGetPerTensorQuantization(handle tensor, void *quantization) { return 1; }
void LiteRtDestroyEnvironment(handle it) {}
void LiteRtDestroyModel(handle it) {}
void LiteRtDestroyOptions(handle it) {}
void LiteRtDestroyCompiledModel(handle it) {}
void LiteRtDestroyTensorBuffer(handle it) {}

static int one(size_t *count) {
    *count = 1;
    return 0;
}

static int tensor(handle *into, char *which) {
    *into = which;
    return 0;
}

int LiteRtGetNumSubgraphInputs(handle subgraph, size_t *count) { return one(count); }
int LiteRtGetNumSubgraphOutputs(handle subgraph, size_t *count) { return one(count); }
int LiteRtGetNumSubgraphOps(handle subgraph, size_t *count) { return one(count); }
int LiteRtGetSubgraphInput(handle s, size_t i, handle *into) { return tensor(into, &input_tensor); }
int LiteRtGetSubgraphOutput(handle s, size_t i, handle *into) { return tensor(into, &output_tensor); }
int LiteRtGetSignatureInputTensorByIndex(handle s, size_t i, handle *into) { return tensor(into, &input_tensor); }
int LiteRtGetSignatureOutputTensorByIndex(handle s, size_t i, handle *into) { return tensor(into, &output_tensor); }

int LiteRtGetRankedTensorType(handle tensor, int32_t *type) {
    type[0] = 1; /* float32 */
    type[1] = 2; /* of rank 2 */
    type[2] = 1;
    type[3] = 4;
    return 0;
}

int LiteRtCreateManagedTensorBufferFromRequirements(handle env, const void *type, handle requirements, handle *buffer) {
    *buffer = requirements;
    return 0;
}

int LiteRtLockTensorBuffer(handle buffer, void **memory, int mode) {
    *memory = buffer == &input_buffer ? input : output;
    return 0;
}

int LiteRtCreateOpaqueOptions(const char *name, void *data, void (*destroy)(void *), handle *options) {
    destroy(data);
    return give(options);
}

int LiteRtCreateCompiledModel(handle env, handle model, handle options, handle *compiled) {
    if (FAULT == CRASH_IN_LOAD) {
        fputs("the last words of a fake runtime\n", stderr);
        crash();
    }
    if (FAULT == REFUSE_IN_LOAD) {
        fputs("ERROR: Encountered unresolved custom op: \"Fl\xff\x01\"ex\\\n\tNode 3\n", stderr);
        return 504;
    }
    return give(compiled);
}

int LiteRtRunCompiledModel(handle c, size_t s, size_t n, handle *inputs, size_t m, handle *outputs) {
    runs++;
    if (FAULT != NOTHING && runs > RUNS_BEFORE) {
        switch (FAULT) {
        case CRASH_IN_RUN: crash(); break;
        case HANG_IN_RUN: sleep(600); break;
        case EXIT_IN_RUN: _exit(0); break;
        case ERROR_IN_RUN: return 3;
        }
    }
    if (FAULT == PRINT && runs == 1) {
        puts("{\"type\":\"end\"} and \xff\xfe other garbage");
        fflush(stdout);
    }
#ifndef EMPTY
    for (int index = 0; index < 4; index++) {
        output[index] = 2 * input[index];
        if (FAULT == DRIFT && runs > RUNS_BEFORE) {
            output[index] *= 1.01f;
        }
        if (FAULT == NAN_OUT && runs > RUNS_BEFORE) {
            output[index] = 0.0f / 0.0f;
        }
    }
#endif
    return 0;
}

/* bench: the native timed loop. One job, its messages on standard output; see harness/protocol.py.
 *
 * It loads a runtime's own shared library by dlopen, so that one build of it times any version of any runtime in
 * `runtimes[]`, on a host, on a board and on a phone alike. It needs nothing but libc. It does and says what the Python
 * worker in harness/deploy/worker does and says, message by message.
 *
 * As a server (`--serve`) it stops after the warm-up and runs one block for each line `block` on its standard input,
 * until the line `end`: two of them, asked in turn, compare two versions under the same conditions. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answers.h"
#include "job.h"
#include "loop.h"
#include "ndjson.h"
#include "runtime.h"
#include "system.h"

#define PROTOCOL_VERSION 1

static const struct runtime *const runtimes[] = {&onnxruntime_runtime, &litert_runtime};

/* What the whole program shares: where messages go, and what is freed at the end. */
struct program {
    int output;
    struct line line;
    struct session session;
    struct bytes *inputs;
    struct bytes *outputs;
    struct samples times;
    uint64_t clock_cost;
};

static bool do_job(struct program *program, const struct job *job, struct failure *why);
static bool is_version(const char *said, const char *asked);
static bool latency_job(struct program *program, const struct job *job, const struct runtime *runtime,
                        struct failure *why);
static bool memory_job(struct program *program, const struct job *job, const struct runtime *runtime,
                       struct failure *why);
static bool profile_job(struct program *program, const struct job *job, const struct runtime *runtime,
                        struct failure *why);
static bool load(struct program *program, const struct job *job, const struct runtime *runtime, struct failure *why);
static bool answer_all(struct program *program, const struct job *job, const struct runtime *runtime,
                       struct failure *why);
static bool run_block(struct program *program, const struct runtime *runtime, const struct block_plan *plan,
                      uint64_t index, struct failure *why);
static bool serve(struct program *program, const struct runtime *runtime, const struct block_plan *plan,
                  struct failure *why);
static void say_asked(struct line *line, const struct job *job);
static void say_meta(struct program *program, const struct job *job, const struct runtime *runtime,
                     const char *version, uint64_t startup_ns);
static void say_canary(struct program *program, const char *when);
static void say_loaded(struct program *program, uint64_t ns, int threads);
static void say_tensors(struct line *line, const char *key, const struct tensor *tensors, size_t count);
static bool say_outputs(struct program *program, const struct job *job, struct failure *why);
static void say_memory(struct program *program, const char *at, bool was_reset);
static void count_or_null(struct line *line, const char *key, int64_t count);
static int private_stdout(void);

int main(int count, char **flags) {
    struct job job;
    job_read(&job, count, flags);
    struct program program = {.output = private_stdout()};
    struct failure why = {.kind = "internal"};
    bool is_done = do_job(&program, &job, &why);
    if (is_done) {
        line_begin(&program.line, "end");
    } else {
        line_begin(&program.line, "error");
        line_text(&program.line, "kind", why.kind);
        line_text(&program.line, "message", why.message);
    }
    line_send(&program.line, program.output);
    bytes_free(program.inputs, job.input_count);
    free(program.inputs);
    samples_free(&program.times);
    line_free(&program.line);
    job_free(&job);
    return is_done ? 0 : 1;
}

static bool do_job(struct program *program, const struct job *job, struct failure *why) {
    const struct runtime *runtime = NULL;
    for (size_t index = 0; index < sizeof runtimes / sizeof *runtimes; index++) {
        if (strcmp(runtimes[index]->name, job->choice.runtime) == 0) {
            runtime = runtimes[index];
        }
    }
    if (runtime == NULL) {
        return fail(why, "unknown_name", "this program knows the runtimes onnxruntime, litert, not '%s'",
                    job->choice.runtime);
    }
    if (job->library == NULL) {
        return fail(why, "missing_tool", "%s needs its shared library: --library FILE", runtime->name);
    }
    uint64_t began = clock_ns();
    char version[64] = "";
    bool is_done = runtime->load_library(job->library, version, why);
    if (is_done && version[0] != '\0' && job->library_version != NULL && !is_version(version, job->library_version)) {
        is_done = fail(why, "wrong_version", "%s says that it is version %s, asked for was %s", job->library, version,
                       job->library_version);
    }
    if (is_done) {
        uint64_t startup_ns = clock_ns() - began;
        program->clock_cost = clock_cost_ns();
        const char *said = version[0] != '\0' ? version : job->library_version;
        say_meta(program, job, runtime, said != NULL ? said : "unknown", startup_ns);
        is_done = (runtime->check_file == NULL || runtime->check_file(job->model, why)) &&
                  (job->is_memory    ? memory_job(program, job, runtime, why)
                   : job->is_profile ? profile_job(program, job, runtime, why)
                                     : latency_job(program, job, runtime, why));
        bytes_free(program->outputs, program->session.output_count);
        free(program->outputs);
        if (program->session.state != NULL) {
            runtime->close(&program->session);
        }
    }
    runtime->unload_library();
    return is_done;
}

/* By the numbers between dots, those that are missing 0: 1.27 is 1.27.0. A package may have a version of its own behind
 * the library's: 1.2.3.post1, 1.2.3+cpu. */
static bool is_version(const char *said, const char *asked) {
    while (isdigit((unsigned char)*said) || isdigit((unsigned char)*asked)) {
        char *said_end = (char *)said;
        char *asked_end = (char *)asked;
        unsigned long a = isdigit((unsigned char)*said) ? strtoul(said, &said_end, 10) : 0;
        unsigned long b = isdigit((unsigned char)*asked) ? strtoul(asked, &asked_end, 10) : 0;
        if (a != b) {
            return false;
        }
        said = said_end + (*said_end == '.');
        asked = asked_end + (*asked_end == '.');
    }
    return true;
}

static bool latency_job(struct program *program, const struct job *job, const struct runtime *runtime,
                        struct failure *why) {
    struct session *session = &program->session;
    if (!job->is_server) {
        say_canary(program, "before");
    }
    if (!load(program, job, runtime, why) || !inputs_read(job, session, &program->inputs, why) ||
        !inputs_set(job, runtime, session, program->inputs, 0, why)) {
        return false;
    }
    uint64_t before = clock_ns();
    if (!runtime->invoke(session->state, why)) {
        return false;
    }
    uint64_t first_ns = clock_ns() - before;
    line_begin(&program->line, "first");
    line_integer(&program->line, "ns", (int64_t)first_ns);
    line_send(&program->line, program->output);
    if (!answer_all(program, job, runtime, why) || !say_outputs(program, job, why) ||
        !inputs_set(job, runtime, session, program->inputs, 0, why)) {
        return false;
    }

    bool is_steady = false;
    struct block_plan block = job->block;
    if (!samples_reserve(&program->times, block_capacity(&block, program->clock_cost), why) ||
        !warm_up(runtime, session->state, &job->warmup, &program->times, &is_steady, why)) {
        return false;
    }
    line_begin(&program->line, "warmup");
    line_integers(&program->line, "ns", program->times.ns, program->times.count);
    line_boolean(&program->line, "steady", is_steady);
    line_send(&program->line, program->output);
    double typical_ns = median_ns(&program->times, 100, why);
    if (isnan(typical_ns)) {
        return false;
    }
    block.per_sample = iterations_per_sample(typical_ns, program->clock_cost);
    bool are_timed = true;
    if (job->is_server) {
        are_timed = serve(program, runtime, &block, why);
    }
    for (uint64_t index = 0; !job->is_server && are_timed && index < job->blocks; index++) {
        are_timed = run_block(program, runtime, &block, index, why);
    }
    if (!are_timed || !outputs_same(runtime, session, program->outputs, why)) {
        return false;
    }
    if (!job->is_server) {
        say_canary(program, "after");
    }
    return true;
}

static bool memory_job(struct program *program, const struct job *job, const struct runtime *runtime,
                       struct failure *why) {
    bool was_reset = reset_peak_memory();
    say_memory(program, "baseline", was_reset);
    if (!load(program, job, runtime, why) || !inputs_read(job, &program->session, &program->inputs, why)) {
        return false;
    }
    say_memory(program, "loaded", was_reset);
    if (!inputs_set(job, runtime, &program->session, program->inputs, 0, why)) {
        return false;
    }
    for (uint64_t index = 0; index < job->memory_iterations; index++) {
        if (!runtime->invoke(program->session.state, why)) {
            return false;
        }
    }
    say_memory(program, "peak", was_reset);
    return true;
}

/* Taking the time of each operator slows the whole down: so this is a process of its own, and its whole inferences are
 * said beside the operators, to be held against those that were timed undisturbed. */
static bool profile_job(struct program *program, const struct job *job, const struct runtime *runtime,
                        struct failure *why) {
    if (runtime->profile_start == NULL) {
        return fail(why, "unsupported_profile", "%s does not tell the time of its operators", runtime->name);
    }
    struct session *session = &program->session;
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/profile", job->output_folder);
    if (length < 0 || (size_t)length >= sizeof path) {
        return fail(why, "usage", "the path of the output folder is too long");
    }
    struct job profiled = *job;
    profiled.choice.profile = path;
    if (!load(program, &profiled, runtime, why) || !inputs_read(job, session, &program->inputs, why) ||
        !inputs_set(job, runtime, session, program->inputs, 0, why) || !runtime->invoke(session->state, why) ||
        !samples_reserve(&program->times, job->profile_iterations, why) || !runtime->profile_start(session, why)) {
        return false;
    }
    program->times.count = 0;
    for (uint64_t index = 0; index < job->profile_iterations; index++) {
        uint64_t before = clock_ns();
        if (!runtime->invoke(session->state, why)) {
            return false;
        }
        program->times.ns[program->times.count++] = clock_ns() - before;
    }
    if (!runtime->profile_end(session, path, why)) {
        return false;
    }
    line_begin(&program->line, "profile");
    line_text(&program->line, "file", path);
    line_text(&program->line, "format", runtime->profile_format);
    line_integers(&program->line, "ns", program->times.ns, program->times.count);
    line_send(&program->line, program->output);
    return true;
}

static bool load(struct program *program, const struct job *job, const struct runtime *runtime, struct failure *why) {
    int threads_before = thread_count();
    uint64_t before = clock_ns();
    if (!runtime->open(&program->session, job->model, &job->choice, why)) {
        return false;
    }
    uint64_t ns = clock_ns() - before;
    int threads_after = thread_count();
    if (!runtime->read_placement(&program->session, job->model, &job->choice, why)) {
        return false;
    }
    bool are_known = threads_before != UNKNOWN && threads_after != UNKNOWN;
    say_loaded(program, ns, are_known ? 1 + threads_after - threads_before : UNKNOWN);
    return true;
}

/* The outputs for every sample. The first sample has been run already. */
static bool answer_all(struct program *program, const struct job *job, const struct runtime *runtime,
                       struct failure *why) {
    struct session *session = &program->session;
    program->outputs = calloc(session->output_count + 1, sizeof *program->outputs);
    if (program->outputs == NULL) {
        return fail(why, "out_of_memory", "no memory for the outputs");
    }
    for (size_t sample = 0; sample < job->samples; sample++) {
        if (sample > 0 && (!inputs_set(job, runtime, session, program->inputs, sample, why) ||
                           !runtime->invoke(session->state, why))) {
            return false;
        }
        if (!outputs_append(runtime, session, program->outputs, why)) {
            return false;
        }
    }
    return true;
}

static bool run_block(struct program *program, const struct runtime *runtime, const struct block_plan *plan,
                      uint64_t index, struct failure *why) {
    struct conditions conditions;
    uint64_t start_ns = 0;
    conditions_begin(&conditions);
    bool is_timed = timed_block(runtime, program->session.state, plan, &program->times, &start_ns, why);
    if (!is_timed) {
        return false;
    }
    conditions_end(&conditions);
    struct line *line = &program->line;
    line_begin(line, "block");
    line_integer(line, "index", (int64_t)index);
    line_integer(line, "start_ns", (int64_t)start_ns);
    line_integer(line, "iterations_per_sample", (int64_t)plan->per_sample);
    line_integers(line, "ns", program->times.ns, program->times.count);
    line_open(line, "conditions", '{');
    line_number(line, "steal_ms", conditions.steal_ms);
    line_integer(line, "involuntary_switches", conditions.involuntary_switches);
    line_number(line, "cpu_cap_hz", conditions.cpu_cap_hz);
    if (conditions.clocks > 0) {
        line_integers(line, "cpu_caps_hz", conditions.cpu_caps_hz, conditions.clocks);
    }
    line_number(line, "temperature_celsius", conditions.temperature_celsius);
    line_number(line, "cpu_hz", conditions.cpu_hz);
    count_or_null(line, "throttle_events", conditions.throttle_events);
    line_close(line, '}');
    line_send(line, program->output);
    return true;
}

static bool serve(struct program *program, const struct runtime *runtime, const struct block_plan *plan,
                  struct failure *why) {
    char request[64];
    for (uint64_t index = 0; fgets(request, sizeof request, stdin) != NULL;) {
        request[strcspn(request, "\r\n")] = '\0';
        if (strcmp(request, "end") == 0) {
            return true;
        }
        if (strcmp(request, "block") != 0) {
            return fail(why, "usage", "a server takes the lines `block` and `end`, not `%s`", request);
        }
        if (!run_block(program, runtime, plan, index++, why)) {
            return false;
        }
    }
    return fail(why, "usage", "standard input was closed before the line `end`");
}

/* What was understood of the flags, so that whoever gave them can compare. */
static void say_asked(struct line *line, const struct job *job) {
    const struct choice *choice = &job->choice;
    line_open(line, "asked", '{');
    line_text(line, "accelerator", choice->accelerator);
    line_integer(line, "threads", choice->threads);
    line_text(line, "graph_optimization", choice->graph_optimization);
    line_open(line, "options", '{');
    for (size_t index = 0; index < choice->option_count; index++) {
        line_text(line, choice->options[index].key, choice->options[index].value);
    }
    line_close(line, '}');
    line_text(line, "mode", job->is_memory ? "memory" : job->is_profile ? "profile" : "latency");
    line_integer(line, "samples", (int64_t)job->samples);
    line_integer(line, "blocks", (int64_t)job->blocks);
    line_number(line, "block_s", job->block.seconds);
    line_integer(line, "block_iterations", (int64_t)job->block.iterations);
    line_integer(line, "warmup_iterations", (int64_t)job->warmup.iterations);
    line_number(line, "warmup_s", job->warmup.seconds);
    line_number(line, "warmup_cap_s", job->warmup.cap_s);
    line_integer(line, "memory_iterations", (int64_t)job->memory_iterations);
    line_integer(line, "profile_iterations", (int64_t)job->profile_iterations);
    line_close(line, '}');
}

static void say_meta(struct program *program, const struct job *job, const struct runtime *runtime,
                     const char *version, uint64_t startup_ns) {
    struct line *line = &program->line;
    line_begin(line, "meta");
    line_integer(line, "protocol", PROTOCOL_VERSION);
    line_text(line, "program", "bench");
    line_text(line, "runtime", runtime->name);
    line_text(line, "runtime_version", version);
    line_text(line, "api", runtime->api);
    line_text(line, "library", job->library);
    line_integer(line, "pid", getpid());
    line_text(line, "clock", "clock_gettime(CLOCK_MONOTONIC_RAW)");
    line_integer(line, "clock_cost_ns", (int64_t)program->clock_cost);
    line_integer(line, "startup_ns", (int64_t)startup_ns);
    char processors[PROCESSORS_TEXT];
    line_text(line, "processors", allowed_processors(processors, sizeof processors) ? processors : NULL);
    line_text(line, "program_version", NULL); /* an app has one; this program is built from the source beside it */
    say_asked(line, job);
    line_integer(line, "jobs_before", 0);     /* in this process, which is fresh */
    line_send(line, program->output);
}

static void say_canary(struct program *program, const char *when) {
    int64_t ns = (int64_t)canary_ns();
    line_begin(&program->line, "canary");
    line_text(&program->line, "when", when);
    line_integer(&program->line, "ns", ns);
    line_send(&program->line, program->output);
}

static void say_loaded(struct program *program, uint64_t ns, int threads) {
    const struct session *session = &program->session;
    const struct placement *placement = &session->placement;
    struct line *line = &program->line;
    line_begin(line, "loaded");
    line_integer(line, "ns", (int64_t)ns);
    count_or_null(line, "threads", threads);
    line_text(line, "graph_optimization", session->graph_optimization);
    say_tensors(line, "inputs", session->inputs, session->input_count);
    say_tensors(line, "outputs", session->outputs, session->output_count);
    line_open(line, "nodes_by_accelerator", '{');
    for (size_t index = 0; index < placement->accelerators; index++) {
        line_integer(line, placement->by_accelerator[index].name, placement->by_accelerator[index].nodes);
    }
    line_close(line, '}');
    count_or_null(line, "nodes_total", placement->nodes_total);
    count_or_null(line, "nodes_delegated", placement->nodes_delegated);
    count_or_null(line, "partitions", placement->partitions);
    line_text(line, "fallback_reason", placement->fallback_reason);
    line_text(line, "placement_missing", NULL); /* both runtimes say where nodes run */
    line_open(line, "nodes", '[');              /* in numbers only: one by one is what a profile is for */
    line_close(line, ']');
    line_open(line, "settings", '{');
    line_close(line, '}');
    line_open(line, "timings_ns", '{'); /* loading has no parts that could be told apart */
    line_close(line, '}');
    line_send(line, program->output);
}

static void say_tensors(struct line *line, const char *key, const struct tensor *tensors, size_t count) {
    line_open(line, key, '[');
    for (size_t index = 0; index < count; index++) {
        const struct tensor *tensor = &tensors[index];
        line_open(line, NULL, '{');
        line_text(line, "name", tensor->name);
        line_open(line, "shape", '[');
        for (size_t axis = 0; axis < tensor->rank; axis++) {
            line_integer(line, NULL, tensor->shape[axis]);
        }
        line_close(line, ']');
        line_text(line, "dtype", tensor->dtype);
        if (tensor->is_quantized) {
            line_number(line, "scale", tensor->scale);
            line_integer(line, "zero_point", tensor->zero_point);
        } else {
            line_null(line, "scale");
            line_null(line, "zero_point");
        }
        line_close(line, '}');
    }
    line_close(line, ']');
}

static bool say_outputs(struct program *program, const struct job *job, struct failure *why) {
    size_t count = program->session.output_count;
    char **paths = calloc(count + 1, sizeof *paths);
    if (paths == NULL) {
        return fail(why, "out_of_memory", "no memory for the outputs' paths");
    }
    char digest[65];
    bool are_written = outputs_write(&program->session, program->outputs, job->output_folder, paths, digest, why);
    if (are_written) {
        line_begin(&program->line, "outputs");
        line_open(&program->line, "files", '[');
        for (size_t index = 0; index < count; index++) {
            line_text(&program->line, NULL, paths[index]);
        }
        line_close(&program->line, ']');
        line_text(&program->line, "sha256", digest);
        line_send(&program->line, program->output);
    }
    for (size_t index = 0; index < count; index++) {
        free(paths[index]);
    }
    free(paths);
    return are_written;
}

static void say_memory(struct program *program, const char *at, bool was_reset) {
    struct memory memory = memory_now(strcmp(at, "peak") == 0);
    line_begin(&program->line, "memory");
    line_text(&program->line, "at", at);
    line_text(&program->line, "source", was_reset ? "VmHWM (reset before loading)" : "VmHWM (whole process)");
    line_integer(&program->line, "resident_bytes", memory.resident_bytes);
    count_or_null(&program->line, "pss_bytes", memory.pss_bytes);
    count_or_null(&program->line, "private_dirty_bytes", memory.private_dirty_bytes);
    count_or_null(&program->line, "rss_anon_bytes", memory.rss_anon_bytes);
    line_send(&program->line, program->output);
}

static void count_or_null(struct line *line, const char *key, int64_t count) {
    if (count == UNKNOWN) {
        line_null(line, key);
    } else {
        line_integer(line, key, count);
    }
}

/* Standard output for the messages alone; what a runtime prints there goes to standard error. */
static int private_stdout(void) {
    int output = dup(STDOUT_FILENO);
    if (output < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        perror("bench: there is no standard output");
        exit(74);
    }
    return output;
}

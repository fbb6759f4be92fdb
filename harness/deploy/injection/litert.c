/* A runtime library with something added to it: `cc -shared`, linked against the real one, and named in its place.
 *
 * Whoever loads this library finds every function of the real one, since a symbol is sought in a library's dependencies
 * as well, and this one in place of the function that runs a model. The caller's clock is read around it, so what is
 * added here is inside of the timed region, as a slower kernel would be. What is added is compiled in: each injection is
 * a build of its own, as a slower version of a runtime would be.
 *
 * Linux, LiteRT's C API.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#ifndef SPIN_NS /* Added to every call. */
#define SPIN_NS 0
#endif
#ifndef REPEAT_PPM /* Work in memory, so many millionths of the call's own time long. */
#define REPEAT_PPM 0
#endif
#ifndef MEMORY_BYTES /* Allocated and touched at the first call, and kept. */
#define MEMORY_BYTES 0
#endif
#ifndef COLD_NS /* Added to the first call. */
#define COLD_NS 0
#endif
#ifndef TRIPLE_EVERY /* One call in so many takes three times as long, drawn at random. */
#define TRIPLE_EVERY 0
#endif
#ifndef RAMP_NS /* Added to every call, growing from nothing to so much over each period of the clock. */
#define RAMP_NS 0
#endif
#ifndef STEP_NS /* Added to every call in the second half of each period of the clock. */
#define STEP_NS 0
#endif
#ifndef PERIOD_NS /* By the clock of the device: what happens to one process happens to all. */
#define PERIOD_NS 1000000000
#endif

typedef void *handle;
typedef int (*run_function)(handle, size_t, size_t, handle *, size_t, handle *);

static uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static void spin_ns(uint64_t length_ns) {
    uint64_t end = now_ns() + length_ns;
    while (length_ns > 0 && now_ns() < end) {
    }
}

/* Sum up a buffer of 16 KiB until the time is over: a larger one takes the second cache from the inference that follows,
 * which is then slower by more than what was asked for. */
static void work_ns(uint64_t length_ns) {
    static uint64_t buffer[1 << 11];
    static volatile uint64_t sink;
    uint64_t sum = 0;
    size_t at = 0;
    for (uint64_t end = now_ns() + length_ns; length_ns > 0 && now_ns() < end;) {
        for (size_t last = at + 64; at < last; at++) {
            sum += buffer[at]++;
        }
        at %= sizeof buffer / sizeof *buffer;
    }
    sink += sum; /* so that the work is not optimized away */
}

static void touch(size_t bytes) {
    volatile char *memory = malloc(bytes);
    for (size_t at = 0; memory != NULL && at < bytes; at += 512) {
        memory[at] = 1;
    }
}

int LiteRtRunCompiledModel(handle compiled, size_t signature, size_t input_count, handle *inputs, size_t output_count,
                           handle *outputs) {
    static run_function run;
    static uint64_t first_ns;
    static uint32_t random = 2463534242U;
    uint64_t began = now_ns();
    if (run == NULL) {
        *(void **)&run = dlsym(RTLD_NEXT, "LiteRtRunCompiledModel");
        first_ns = began;
        if (run == NULL) {
            return -1;
        }
        if (MEMORY_BYTES > 0) {
            touch(MEMORY_BYTES);
        }
        spin_ns(COLD_NS);
    }
    int status = run(compiled, signature, input_count, inputs, output_count, outputs);
    uint64_t took = now_ns() - began;
    uint64_t phase = began % PERIOD_NS;
    uint64_t added = SPIN_NS + (uint64_t)((double)RAMP_NS * (double)phase / PERIOD_NS);
    if (phase >= PERIOD_NS / 2) {
        added += STEP_NS;
    }
    /* xorshift32: the same calls in every process would fall into the same place of every block. */
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    if (TRIPLE_EVERY > 0 && (random ^ (uint32_t)first_ns) % (TRIPLE_EVERY > 0 ? TRIPLE_EVERY : 1) == 0) {
        added += 2 * took;
    }
    spin_ns(added);
    work_ns((uint64_t)((double)took * REPEAT_PPM / 1e6));
    return status;
}

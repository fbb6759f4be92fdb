/* The timed loop: warm up until the times settle, then blocks with nothing between one inference and the next.
 *
 * The same rules as harness/deploy/worker/loop.py, whose tests hold for both. */
#ifndef BENCH_LOOP_H
#define BENCH_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "runtime.h"

/* Times in run order. */
struct samples {
    uint64_t *ns;
    size_t count;
    size_t capacity;
};

struct warmup_plan {
    uint64_t iterations;
    double seconds;
    double cap_s;
};

struct block_plan {
    uint64_t iterations;
    double seconds;
    uint64_t per_sample; /* inferences between two readings of the clock */
};

/* CLOCK_MONOTONIC_RAW: no time server slews it, so a nanosecond is the processor's own all through a run. */
static inline uint64_t clock_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The shortest time between two readings of the clock: below a hundred of these a duration means little. */
uint64_t clock_cost_ns(void);

/* Runs until the times have settled, at least `iterations` and `seconds`, at most `cap_s`. */
bool warm_up(const struct runtime *runtime, void *state, const struct warmup_plan *plan, struct samples *times,
             bool *is_steady, struct failure *why);

/* Times inferences one by one until `iterations` of them and `seconds` are both reached. */
bool timed_block(const struct runtime *runtime, void *state, const struct block_plan *plan, struct samples *times,
                 uint64_t *start_ns, struct failure *why);

/* How many inferences one sample needs so that reading the clock stays below 1 % of it. */
uint64_t iterations_per_sample(double typical_ns, uint64_t clock_cost);

/* Median of the last `last` samples. */
double median_ns(const struct samples *times, size_t last, struct failure *why);

/* Room for `capacity` samples, its pages present, so that a block meets no page fault of ours. */
bool samples_reserve(struct samples *samples, size_t capacity, struct failure *why);
void samples_free(struct samples *samples);

/* How many samples a block cannot exceed in practice: what fits into its time at a hundred clock readings each. */
size_t block_capacity(const struct block_plan *plan, uint64_t clock_cost);

#endif

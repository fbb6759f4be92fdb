#include "loop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Settled: a fast and a slow moving average within 4 % of each other for more than 40 iterations in a row, or, where an
 * inference takes many milliseconds, for one second and at least 5 iterations. Both averages are corrected for their
 * start, as the uncorrected slow one remembers the cold first iteration for hundreds.
 *
 * Source: androidx.benchmark's WarmupManager (weights, share and count); Kingma & Ba 2015, section 3 (correction). */
#define FAST_WEIGHT 0.1
#define SLOW_WEIGHT 0.005
#define CLOSE 0.04
#define CLOSE_FOR_ITERATIONS 40
#define CLOSE_FOR_S 1.0
#define LEAST_FOR_SLOW 5

#define CLOCK_READINGS 1001

static bool keep(struct samples *times, uint64_t ns, struct failure *why);
static int by_size(const void *left, const void *right);

uint64_t clock_cost_ns(void) {
    uint64_t readings[CLOCK_READINGS];
    for (size_t index = 0; index < CLOCK_READINGS; index++) {
        readings[index] = clock_ns();
    }
    uint64_t least = UINT64_MAX;
    for (size_t index = 1; index < CLOCK_READINGS; index++) {
        uint64_t taken = readings[index] - readings[index - 1];
        least = taken < least ? taken : least;
    }
    return least > 0 ? least : 1;
}

bool warm_up(const struct runtime *runtime, void *state, const struct warmup_plan *plan, struct samples *times,
             bool *is_steady, struct failure *why) {
    double fast = 0, slow = 0, fast_left = 1, slow_left = 1;
    uint64_t close_since = 0, close_count = 0;
    times->count = 0;
    uint64_t began = clock_ns();
    for (;;) {
        uint64_t before = clock_ns();
        if (!runtime->invoke(state, why)) {
            return false;
        }
        uint64_t after = clock_ns();
        double taken = (double)(after - before);
        if (!keep(times, after - before, why)) {
            return false;
        }
        fast += FAST_WEIGHT * (taken - fast);
        slow += SLOW_WEIGHT * (taken - slow);
        fast_left *= 1 - FAST_WEIGHT;
        slow_left *= 1 - SLOW_WEIGHT;
        double steady_value = slow / (1 - slow_left);
        if (fabs(fast / (1 - fast_left) - steady_value) <= CLOSE * steady_value) {
            close_since = close_count == 0 ? before : close_since;
            close_count++;
        } else {
            close_count = 0;
        }
        double lasted_s = (double)(after - began) / 1e9;
        double close_s = close_count == 0 ? 0 : (double)(after - close_since) / 1e9;
        bool enough = times->count >= plan->iterations && lasted_s >= plan->seconds;
        bool settled = close_count > CLOSE_FOR_ITERATIONS || (close_count >= LEAST_FOR_SLOW && close_s >= CLOSE_FOR_S);
        if (enough && settled) {
            *is_steady = true;
            return true;
        }
        if (lasted_s >= plan->cap_s) {
            *is_steady = false;
            return true;
        }
    }
}

bool timed_block(const struct runtime *runtime, void *state, const struct block_plan *plan, struct samples *times,
                 uint64_t *start_ns, struct failure *why) {
    /* In variables of its own, so that the loop reads nothing through a pointer that the runtime might have changed. */
    bool (*invoke)(void *, struct failure *) = runtime->invoke;
    uint64_t per_sample = plan->per_sample, wanted = plan->iterations;
    times->count = 0;
    uint64_t start = clock_ns();
    uint64_t deadline = start + (uint64_t)llround(plan->seconds * 1e9);
    *start_ns = start;
    for (;;) {
        uint64_t before = clock_ns();
        for (uint64_t left = per_sample; left > 0; left--) {
            if (!invoke(state, why)) {
                return false;
            }
        }
        uint64_t after = clock_ns();
        if (!keep(times, after - before, why)) {
            return false;
        }
        if (after >= deadline && times->count * per_sample >= wanted) {
            return true;
        }
    }
}

uint64_t iterations_per_sample(double typical_ns, uint64_t clock_cost) {
    uint64_t typical = typical_ns < 1 ? 1 : (uint64_t)llround(typical_ns);
    uint64_t wanted = (100 * clock_cost + typical - 1) / typical;
    return wanted > 0 ? wanted : 1;
}

double median_ns(const struct samples *times, size_t last, struct failure *why) {
    size_t count = times->count < last ? times->count : last;
    uint64_t *sorted = malloc((count > 0 ? count : 1) * sizeof *sorted);
    if (sorted == NULL || count == 0) {
        free(sorted);
        (void)fail(why, "internal", "there is nothing to take a median of");
        return NAN;
    }
    memcpy(sorted, times->ns + times->count - count, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_size);
    double median = ((double)sorted[(count - 1) / 2] + (double)sorted[count / 2]) / 2;
    free(sorted);
    return median;
}

bool samples_reserve(struct samples *samples, size_t capacity, struct failure *why) {
    if (capacity <= samples->capacity) {
        return true;
    }
    uint64_t *grown = realloc(samples->ns, capacity * sizeof *grown);
    if (grown == NULL) {
        return fail(why, "out_of_memory", "no memory for %zu samples", capacity);
    }
    memset(grown + samples->capacity, 0, (capacity - samples->capacity) * sizeof *grown);
    samples->ns = grown;
    samples->capacity = capacity;
    return true;
}

void samples_free(struct samples *samples) {
    free(samples->ns);
    *samples = (struct samples){0};
}

size_t block_capacity(const struct block_plan *plan, uint64_t clock_cost) {
    /* A quarter of the promised length of a sample, as single ones are faster than the median of the warm-up. */
    double by_time = plan->seconds * 1e9 / (25.0 * (double)clock_cost);
    double most = 8.0 * 1024 * 1024;
    return (size_t)fmin(by_time, most) + (size_t)plan->iterations + 16;
}

/* Outside of the two readings of the clock. Memory grows only where a block holds more than was foreseen. */
static bool keep(struct samples *times, uint64_t ns, struct failure *why) {
    if (times->count == times->capacity && !samples_reserve(times, 2 * times->capacity + 4096, why)) {
        return false;
    }
    times->ns[times->count++] = ns;
    return true;
}

static int by_size(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

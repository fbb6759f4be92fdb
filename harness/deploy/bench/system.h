/* What the program reads of its own process and machine. A signal that is not there is unknown, never 0. */
#ifndef BENCH_SYSTEM_H
#define BENCH_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNKNOWN (-1)
#define CLOCKS_MAX 256
#define SENSORS_EVERY_NS 100000000

/* What the system did to a block. Each is UNKNOWN (or NAN) where the machine does not say. */
struct conditions {
    double steal_ms;              /* difference over the block */
    int64_t involuntary_switches; /* difference */
    int64_t throttle_events;      /* difference */
    double cpu_cap_hz;            /* the lowest upper limit */
    uint64_t cpu_caps_hz[CLOCKS_MAX]; /* the upper limit of each clock, at the start or the end, whichever is lower, in
                                       * the order of their processors */
    size_t clocks;                    /* at the end; 0 where a limit cannot be read */
    /* At the end; neither is read again within SENSORS_EVERY_NS: */
    double temperature_celsius; /* the hottest zone of the processor */
    double cpu_hz;              /* the clock of the processor that the block ended on */
};

struct memory {
    int64_t resident_bytes;
    int64_t pss_bytes;
    int64_t private_dirty_bytes;
    int64_t rss_anon_bytes; /* resident, and backed by no file */
};

/* Times a fixed piece of work, SHA-256 of 4 MiB: one core's integer units and little memory, no runtime. The longer it
 * takes, the slower the processor is clocked or the more of it is taken away. Comparable only within this program. */
uint64_t canary_ns(void);

/* Threads this process has now, or UNKNOWN. Source: proc(5), /proc/pid/task. */
int thread_count(void);

/* The processors this process may use, as the system lists them: `0-3,6`; false where it does not say.
 * Source: proc(5), Cpus_allowed_list. */
#define PROCESSORS_TEXT 256
bool allowed_processors(char *text, size_t size);

void conditions_begin(struct conditions *conditions);
void conditions_end(struct conditions *conditions);

/* Makes VmHWM start again from the present resident set; false where the system cannot.
 * Source: proc(5), /proc/pid/clear_refs, the value 5 (Linux 4.0). */
bool reset_peak_memory(void);

/* VmHWM if `peak`, else VmRSS; PSS and private dirty pages beside it. */
struct memory memory_now(bool peak);

#endif

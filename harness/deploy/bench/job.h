/* The flags that say what to do: those of `Job.argv` in harness/protocol.py, and three of this program's own. */
#ifndef BENCH_JOB_H
#define BENCH_JOB_H

#include "loop.h"
#include "runtime.h"

struct job {
    struct choice choice;
    const char *library;
    const char *library_version; /* what whoever gave the library knows; NULL: unknown */
    const char *model;
    const char **inputs;
    size_t input_count;
    size_t samples;
    const char *output_folder;
    bool is_memory;
    bool is_profile;
    bool is_server;
    uint64_t blocks;
    uint64_t memory_iterations;
    uint64_t profile_iterations;
    struct block_plan block;
    struct warmup_plan warmup;
};

/* Reads the flags. Ends the program with exit code 2 and a sentence on standard error where they make no sense. */
void job_read(struct job *job, int count, char **flags);
void job_free(struct job *job);

#endif

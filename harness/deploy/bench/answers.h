/* The samples that go in, the outputs that come out, and the check that they are the same at the end. */
#ifndef BENCH_ANSWERS_H
#define BENCH_ANSWERS_H

#include "job.h"
#include "runtime.h"

struct bytes {
    unsigned char *memory;
    size_t count;
    size_t capacity;
};

/* One raw little-endian file an input, [samples, ...], checked against what the model declares. */
bool inputs_read(const struct job *job, const struct session *session, struct bytes **inputs, struct failure *why);

/* Puts one sample of every input where the runtime reads it. */
bool inputs_set(const struct job *job, const struct runtime *runtime, struct session *session,
                const struct bytes *inputs, size_t sample, struct failure *why);

/* Appends what the last run computed to `outputs`, one an output. */
bool outputs_append(const struct runtime *runtime, struct session *session, struct bytes *outputs,
                    struct failure *why);

/* Writes `output-0.bin`... and makes the digest over their bytes in order. `paths` are freed by the caller. */
bool outputs_write(const struct session *session, const struct bytes *outputs, const char *folder, char **paths,
                   char digest[65], struct failure *why);

/* The timed inferences computed what the checked one did: their input was not overwritten, nothing drifted. */
bool outputs_same(const struct runtime *runtime, struct session *session, const struct bytes *first,
                  struct failure *why);

void bytes_free(struct bytes *bytes, size_t count);

#endif

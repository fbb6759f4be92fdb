/* Why the program gives up: a word for scripts and a sentence for people. */
#ifndef BENCH_FAILURE_H
#define BENCH_FAILURE_H

#include <stdbool.h>

struct failure {
    const char *kind; /* A `kind` of harness/errors.py: unreadable_model, wrong_input... */
    char message[8192];
};

/* Fills `why` and returns false, so that a function can end with `return fail(...)`. White space is made single, as
 * the runtimes' own messages come on several lines. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
bool fail(struct failure *why, const char *kind, const char *format, ...);

#endif

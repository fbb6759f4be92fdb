/* What a runtime prints on standard error for a while: LiteRT says there, and nowhere else, why it refuses a model.
 *
 * The text goes on to the real standard error when the capture ends. Also when it ends by a crash: a handler for the
 * deadly signals hands over what is in the pipe and lets the signal do its work. */
#ifndef BENCH_CAPTURE_H
#define BENCH_CAPTURE_H

#include <stddef.h>

void capture_begin(void);

/* Puts the last `size` - 1 bytes into `text`. Does nothing but that if no capture runs. */
void capture_end(char *text, size_t size);

#endif

/* Writes one JSON object a line, valid whatever bytes its texts hold. */
#ifndef BENCH_NDJSON_H
#define BENCH_NDJSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct line {
    char *text;
    size_t length;
    size_t capacity;
};

/* Each function appends to the line; `key` is NULL inside an array. The memory is reused by the next line. */
void line_begin(struct line *line, const char *type);
void line_open(struct line *line, const char *key, char bracket);
void line_close(struct line *line, char bracket);
void line_null(struct line *line, const char *key);
void line_boolean(struct line *line, const char *key, bool value);
void line_integer(struct line *line, const char *key, int64_t value);
void line_number(struct line *line, const char *key, double value);
void line_text(struct line *line, const char *key, const char *value); /* NULL is null */
void line_integers(struct line *line, const char *key, const uint64_t *values, size_t count);

/* Ends the object and writes it. Ends the program when nobody reads any more: there is nobody to tell. */
void line_send(struct line *line, int descriptor);

void line_free(struct line *line);

#endif

#include "ndjson.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void start_value(struct line *line, const char *key);
static void put(struct line *line, const char *bytes, size_t count);
static void put_quoted(struct line *line, const char *text);
static size_t utf8_length(const unsigned char *text);

void line_begin(struct line *line, const char *type) {
    line->length = 0;
    put(line, "{", 1);
    line_text(line, "type", type);
}

void line_open(struct line *line, const char *key, char bracket) {
    start_value(line, key);
    put(line, &bracket, 1);
}

void line_close(struct line *line, char bracket) { put(line, &bracket, 1); }

void line_null(struct line *line, const char *key) {
    start_value(line, key);
    put(line, "null", 4);
}

void line_boolean(struct line *line, const char *key, bool value) {
    start_value(line, key);
    put(line, value ? "true" : "false", value ? 4 : 5);
}

void line_integer(struct line *line, const char *key, int64_t value) {
    char digits[32];
    start_value(line, key);
    put(line, digits, (size_t)snprintf(digits, sizeof digits, "%" PRId64, value));
}

void line_number(struct line *line, const char *key, double value) {
    if (!isfinite(value)) { /* JSON has no word for it; unknown is null */
        line_null(line, key);
        return;
    }
    char digits[40];
    start_value(line, key);
    put(line, digits, (size_t)snprintf(digits, sizeof digits, "%.17g", value));
}

void line_text(struct line *line, const char *key, const char *value) {
    if (value == NULL) {
        line_null(line, key);
        return;
    }
    start_value(line, key);
    put_quoted(line, value);
}

void line_integers(struct line *line, const char *key, const uint64_t *values, size_t count) {
    line_open(line, key, '[');
    for (size_t index = 0; index < count; index++) {
        char digits[24];
        int length = snprintf(digits, sizeof digits, index == 0 ? "%" PRIu64 : ",%" PRIu64, values[index]);
        put(line, digits, (size_t)length);
    }
    line_close(line, ']');
}

void line_send(struct line *line, int descriptor) {
    put(line, "}\n", 2);
    size_t sent = 0;
    while (sent < line->length) {
        ssize_t count = write(descriptor, line->text + sent, line->length - sent);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            perror("bench: cannot write to standard output");
            _exit(74);
        }
        sent += (size_t)count;
    }
}

void line_free(struct line *line) {
    free(line->text);
    *line = (struct line){0};
}

static void start_value(struct line *line, const char *key) {
    char last = line->text[line->length - 1];
    /* A text ends in a quotation mark, so a bracket here is an opened one. */
    if (last != '{' && last != '[') {
        put(line, ",", 1);
    }
    if (key != NULL) {
        put_quoted(line, key);
        put(line, ":", 1);
    }
}

static void put(struct line *line, const char *bytes, size_t count) {
    if (count > line->capacity - line->length) {
        size_t capacity = line->capacity == 0 ? 4096 : line->capacity;
        while (count > capacity - line->length) {
            capacity *= 2;
        }
        char *grown = realloc(line->text, capacity);
        if (grown == NULL) {
            (void)fputs("bench: out of memory for a line of output\n", stderr);
            _exit(70);
        }
        line->text = grown;
        line->capacity = capacity;
    }
    memcpy(line->text + line->length, bytes, count);
    line->length += count;
}

static void put_quoted(struct line *line, const char *text) {
    put(line, "\"", 1);
    const unsigned char *rest = (const unsigned char *)text;
    while (*rest != '\0') {
        size_t length = utf8_length(rest);
        if (length == 0) { /* not UTF-8: U+FFFD stands for the byte */
            put(line, "\xef\xbf\xbd", 3);
            rest++;
        } else if (length > 1) {
            put(line, (const char *)rest, length);
            rest += length;
        } else {
            char escape[8];
            if (*rest == '"' || *rest == '\\') {
                (void)snprintf(escape, sizeof escape, "\\%c", *rest);
            } else if (*rest < 0x20) {
                (void)snprintf(escape, sizeof escape, "\\u%04x", *rest);
            } else {
                (void)snprintf(escape, sizeof escape, "%c", *rest);
            }
            put(line, escape, strlen(escape));
            rest++;
        }
    }
    put(line, "\"", 1);
}

/* Bytes of the well-formed character at `text`, or 0. Source: the Unicode Standard, table 3-7. */
static size_t utf8_length(const unsigned char *text) {
    unsigned char first = text[0];
    if (first < 0x80) {
        return 1;
    }
    size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4) {
        return 0;
    }
    unsigned char least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (text[1] < least || text[1] > most) {
        return 0;
    }
    for (size_t index = 2; index < length; index++) {
        if (text[index] < 0x80 || text[index] > 0xbf) {
            return 0;
        }
    }
    return length;
}

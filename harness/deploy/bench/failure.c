#include "failure.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void make_space_single(char *text);

bool fail(struct failure *why, const char *kind, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why->message, sizeof why->message, format, arguments);
    va_end(arguments);
    make_space_single(why->message);
    why->kind = kind;
    return false;
}

static void make_space_single(char *text) {
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (!isspace((unsigned char)*from)) {
            *to++ = *from;
        } else if (to != text && to[-1] != ' ') {
            *to++ = ' ';
        }
    }
    if (to != text && to[-1] == ' ') {
        to--;
    }
    *to = '\0';
}

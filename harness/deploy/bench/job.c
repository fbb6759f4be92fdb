#include "job.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char USAGE[] =
    "usage: bench --runtime NAME --library FILE --model FILE --output-folder FOLDER [--input FILE]...\n"
    "             [--library-version TEXT] [--accelerator NAME] [--threads N] [--graph-optimization LEVEL]\n"
    "             [--option KEY=JSON]... [--samples N] [--mode latency|memory|profile] [--blocks N] [--block-s S]\n"
    "             [--block-iterations N] [--warmup-iterations N] [--warmup-s S] [--warmup-cap-s S]\n"
    "             [--memory-iterations N] [--profile-iterations N] [--serve]\n"
    "Prints one JSON object a line; harness/protocol.py says what they mean.\n";

static void refuse(const char *problem, const char *flag);
static uint64_t whole_number(const char *text, const char *flag, uint64_t least);
static double seconds(const char *text, const char *flag);
static void add_option(struct job *job, const char *text);
static char *option_text(const char *json);
static char *unquote(const char *json);

void job_read(struct job *job, int count, char **flags) {
    *job = (struct job){
        .choice = {.accelerator = "cpu", .threads = 1, .graph_optimization = "all"},
        .samples = 1,
        .blocks = 4,
        .memory_iterations = 20,
        .profile_iterations = 20,
        .block = {.iterations = 5, .seconds = 0.25, .per_sample = 1},
        .warmup = {.iterations = 10, .seconds = 0.25, .cap_s = 8.0},
    };
    job->inputs = calloc((size_t)count + 1, sizeof *job->inputs);
    job->choice.options = calloc((size_t)count + 1, sizeof *job->choice.options);
    if (job->inputs == NULL || job->choice.options == NULL) {
        refuse("out of memory at", flags[0]);
    }
    for (int index = 1; index < count; index++) {
        const char *flag = flags[index];
        if (strcmp(flag, "--help") == 0) {
            (void)fputs(USAGE, stdout);
            exit(0);
        }
        if (strcmp(flag, "--serve") == 0) {
            job->is_server = true;
            continue;
        }
        const char *value = index + 1 < count ? flags[++index] : NULL;
        if (value == NULL) {
            refuse("a value is missing after", flag);
        } else if (strcmp(flag, "--runtime") == 0) {
            job->choice.runtime = value;
        } else if (strcmp(flag, "--library") == 0) {
            job->library = value;
        } else if (strcmp(flag, "--library-version") == 0) {
            job->library_version = value;
        } else if (strcmp(flag, "--accelerator") == 0) {
            job->choice.accelerator = value;
        } else if (strcmp(flag, "--threads") == 0) {
            job->choice.threads = (int)whole_number(value, flag, 0);
        } else if (strcmp(flag, "--graph-optimization") == 0) {
            job->choice.graph_optimization = value;
        } else if (strcmp(flag, "--option") == 0) {
            add_option(job, value);
        } else if (strcmp(flag, "--model") == 0) {
            job->model = value;
        } else if (strcmp(flag, "--input") == 0) {
            job->inputs[job->input_count++] = value;
        } else if (strcmp(flag, "--samples") == 0) {
            job->samples = whole_number(value, flag, 1);
        } else if (strcmp(flag, "--output-folder") == 0) {
            job->output_folder = value;
        } else if (strcmp(flag, "--mode") == 0) {
            job->is_memory = strcmp(value, "memory") == 0;
            job->is_profile = strcmp(value, "profile") == 0;
            if (!job->is_memory && !job->is_profile && strcmp(value, "latency") != 0) {
                refuse("the mode is latency, memory or profile at", flag);
            }
        } else if (strcmp(flag, "--blocks") == 0) {
            job->blocks = whole_number(value, flag, 0);
        } else if (strcmp(flag, "--block-s") == 0) {
            job->block.seconds = seconds(value, flag);
        } else if (strcmp(flag, "--block-iterations") == 0) {
            job->block.iterations = whole_number(value, flag, 0);
        } else if (strcmp(flag, "--warmup-iterations") == 0) {
            job->warmup.iterations = whole_number(value, flag, 0);
        } else if (strcmp(flag, "--warmup-s") == 0) {
            job->warmup.seconds = seconds(value, flag);
        } else if (strcmp(flag, "--warmup-cap-s") == 0) {
            job->warmup.cap_s = seconds(value, flag);
        } else if (strcmp(flag, "--memory-iterations") == 0) {
            job->memory_iterations = whole_number(value, flag, 0);
        } else if (strcmp(flag, "--profile-iterations") == 0) {
            job->profile_iterations = whole_number(value, flag, 1);
        } else {
            refuse("there is no flag", flag);
        }
    }
    if (job->choice.runtime == NULL || job->model == NULL || job->output_folder == NULL) {
        refuse("needed are --runtime, --model and --output-folder, not all came after", flags[0]);
    }
    if (job->is_server && (job->is_memory || job->is_profile)) {
        refuse("a server measures latency alone: leave out", "--serve");
    }
}

void job_free(struct job *job) {
    for (size_t index = 0; index < job->choice.option_count; index++) {
        free(job->choice.options[index].key);
        free(job->choice.options[index].value);
    }
    free(job->choice.options);
    free(job->inputs);
}

static void refuse(const char *problem, const char *flag) {
    (void)fprintf(stderr, "%sbench: %s %s\n", USAGE, problem, flag);
    exit(2);
}

static uint64_t whole_number(const char *text, const char *flag, uint64_t least) {
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || number < least || number > 1000000000) {
        refuse("a whole number is wanted after", flag);
    }
    return number;
}

static double seconds(const char *text, const char *flag) {
    char *end = NULL;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(number) || number < 0 || number > 86400) {
        refuse("a number of seconds, at most a day, is wanted after", flag);
    }
    return number;
}

static void add_option(struct job *job, const char *text) {
    const char *separator = strchr(text, '=');
    if (separator == NULL) {
        refuse("an option is KEY=VALUE, not", text);
        return;
    }
    struct option *option = &job->choice.options[job->choice.option_count++];
    option->key = strndup(text, (size_t)(separator - text));
    option->value = option_text(separator + 1);
    if (option->key == NULL || option->value == NULL) {
        refuse("the value of an option is true, false, a number or a JSON text, not", text);
    }
}

/* The value as the runtimes take it: a text without its quotation marks, 1 and 0 for true and false, a number as it
 * is written. NULL where it is none of these. */
static char *option_text(const char *json) {
    if (json[0] == '"') {
        return unquote(json);
    }
    if (strcmp(json, "true") == 0 || strcmp(json, "false") == 0) {
        return strdup(json[0] == 't' ? "1" : "0");
    }
    char *end = NULL;
    double number = strtod(json, &end);
    return end == json || *end != '\0' || !isfinite(number) ? NULL : strdup(json);
}

/* A JSON text's content in UTF-8. Characters beyond the basic plane come as such or as a surrogate pair. */
static char *unquote(const char *json) {
    char *text = malloc(strlen(json) + 1);
    char *to = text;
    uint32_t high = 0;
    for (const char *from = json + 1; text != NULL; from++) {
        if (*from == '"' && from[1] == '\0') {
            *to = '\0';
            return text;
        }
        if (*from == '\0' || *from == '"') {
            break;
        }
        if (*from != '\\') {
            *to++ = *from;
            continue;
        }
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        from++;
        const char *name = *from == '\0' ? NULL : strchr(names, *from);
        if (name != NULL) {
            *to++ = values[name - names];
            continue;
        }
        unsigned unit = 0;
        int length = 0;
        if (*from != 'u' || sscanf(from + 1, "%4x%n", &unit, &length) != 1 || length != 4 || unit == 0) {
            break;
        }
        from += 4;
        if (unit >= 0xd800 && unit < 0xdc00) {
            high = unit;
            continue;
        }
        uint32_t point = unit;
        if (unit >= 0xdc00 && unit < 0xe000) {
            if (high == 0) {
                break; /* half a character */
            }
            point = 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00);
            high = 0;
        }
        if (point < 0x80) {
            *to++ = (char)point;
        } else if (point < 0x800) {
            *to++ = (char)(0xc0 | point >> 6);
            *to++ = (char)(0x80 | (point & 0x3f));
        } else if (point < 0x10000) {
            *to++ = (char)(0xe0 | point >> 12);
            *to++ = (char)(0x80 | (point >> 6 & 0x3f));
            *to++ = (char)(0x80 | (point & 0x3f));
        } else {
            *to++ = (char)(0xf0 | (point >> 18 & 0x07));
            *to++ = (char)(0x80 | (point >> 12 & 0x3f));
            *to++ = (char)(0x80 | (point >> 6 & 0x3f));
            *to++ = (char)(0x80 | (point & 0x3f));
        }
    }
    free(text);
    return NULL;
}

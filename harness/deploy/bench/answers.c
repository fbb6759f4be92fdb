#include "answers.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sha256.h"

/* Two runs of one session on one input may differ by this share of the largest value: threads add in another order. */
#define SAME_ANSWER 1e-3

static bool read_file(const char *path, struct bytes *into, struct failure *why);
static bool append(void *context, const void *bytes, size_t count);
static bool make_folders(const char *folder, struct failure *why);
static bool write_file(const char *path, const struct bytes *content, struct failure *why);
static double real_value(const struct tensor *tensor, const unsigned char *item);
static double half_value(uint16_t bits);

bool inputs_read(const struct job *job, const struct session *session, struct bytes **inputs, struct failure *why) {
    if (job->input_count != session->input_count) {
        return fail(why, "wrong_input", "the model takes %zu inputs, the data are %zu files", session->input_count,
                    job->input_count);
    }
    *inputs = calloc(job->input_count + 1, sizeof **inputs);
    if (*inputs == NULL) {
        return fail(why, "out_of_memory", "no memory for the inputs");
    }
    for (size_t index = 0; index < job->input_count; index++) {
        const struct tensor *tensor = &session->inputs[index];
        int64_t items = tensor_items(tensor, tensor->rank > 0 ? 1 : 0);
        if (items < 0 || (tensor->rank > 0 && tensor->shape[0] != 1)) {
            return fail(why, "wrong_input", "input '%s': samples go in one by one, the model takes a batch of %lld",
                        tensor->name, (long long)tensor->shape[0]);
        }
        if (!read_file(job->inputs[index], &(*inputs)[index], why)) {
            return false;
        }
        size_t wanted = job->samples * (size_t)items * tensor->item_bytes;
        if ((*inputs)[index].count != wanted) {
            return fail(why, "wrong_input", "input '%s': the model takes %zu bytes for %zu samples, the data are %zu",
                        tensor->name, wanted, job->samples, (*inputs)[index].count);
        }
    }
    return true;
}

bool inputs_set(const struct job *job, const struct runtime *runtime, struct session *session,
                const struct bytes *inputs, size_t sample, struct failure *why) {
    for (size_t index = 0; index < session->input_count; index++) {
        size_t count = inputs[index].count / job->samples;
        const unsigned char *start = inputs[index].memory == NULL ? NULL : inputs[index].memory + sample * count;
        if (!runtime->set_input(session, index, start, count, why)) {
            return false;
        }
    }
    return true;
}

bool outputs_append(const struct runtime *runtime, struct session *session, struct bytes *outputs,
                    struct failure *why) {
    for (size_t index = 0; index < session->output_count; index++) {
        if (!runtime->read_output(session, index, append, &outputs[index], why)) {
            return false;
        }
    }
    return true;
}

bool outputs_write(const struct session *session, const struct bytes *outputs, const char *folder, char **paths,
                   char digest[65], struct failure *why) {
    if (!make_folders(folder, why)) {
        return false;
    }
    struct sha256 hash;
    sha256_begin(&hash);
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/') {
        length--;
    }
    for (size_t index = 0; index < session->output_count; index++) {
        paths[index] = malloc(length + 40);
        if (paths[index] == NULL) {
            return fail(why, "out_of_memory", "no memory for a path");
        }
        (void)snprintf(paths[index], length + 40, "%.*s/output-%zu.bin", (int)length, folder, index);
        if (!write_file(paths[index], &outputs[index], why)) {
            return false;
        }
        sha256_add(&hash, outputs[index].memory, outputs[index].count);
    }
    sha256_end(&hash, digest);
    return true;
}

bool outputs_same(const struct runtime *runtime, struct session *session, const struct bytes *first,
                  struct failure *why) {
    bool is_same = true;
    for (size_t index = 0; is_same && index < session->output_count; index++) {
        const struct tensor *tensor = &session->outputs[index];
        struct bytes now = {0};
        if (!runtime->read_output(session, index, append, &now, why)) {
            bytes_free(&now, 1);
            return false;
        }
        /* `first` holds every sample's answer, the first sample's in front. */
        double difference = now.count > first[index].count ? HUGE_VAL : 0, largest = 0;
        for (size_t at = 0; at + tensor->item_bytes <= now.count && difference < HUGE_VAL; at += tensor->item_bytes) {
            double found = real_value(tensor, now.memory + at), expected = real_value(tensor, first[index].memory + at);
            double here = fabs(found - expected);
            difference = here > difference || isnan(here) ? here : difference;
            largest = fmax(largest, fabs(expected));
            if (isnan(difference)) {
                break;
            }
        }
        bool is_identical = now.count <= first[index].count &&
                            (now.count == 0 || memcmp(now.memory, first[index].memory, now.count) == 0);
        /* Written so that NaN, which compares false with everything, is a difference. */
        if (!(difference <= SAME_ANSWER * fmax(1e-12, largest)) && !is_identical) {
            is_same = fail(why, "wrong_numbers", "output '%s' changed by %g between the first and the last inference",
                           tensor->name, difference);
        }
        bytes_free(&now, 1);
    }
    return is_same;
}

void bytes_free(struct bytes *bytes, size_t count) {
    for (size_t index = 0; bytes != NULL && index < count; index++) {
        free(bytes[index].memory);
        bytes[index] = (struct bytes){0};
    }
}

static bool read_file(const char *path, struct bytes *into, struct failure *why) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return fail(why, "wrong_input", "%s: %s", path, strerror(errno));
    }
    unsigned char chunk[65536];
    bool is_read = true;
    for (size_t count = fread(chunk, 1, sizeof chunk, file); is_read && count > 0;
         count = fread(chunk, 1, sizeof chunk, file)) {
        is_read = append(into, chunk, count) || fail(why, "out_of_memory", "no memory for %s", path);
    }
    if (is_read && ferror(file) != 0) {
        is_read = fail(why, "wrong_input", "%s cannot be read: %s", path, strerror(errno));
    }
    (void)fclose(file);
    return is_read;
}

static bool append(void *context, const void *bytes, size_t count) {
    struct bytes *into = context;
    if (count > into->capacity - into->count) {
        size_t capacity = into->capacity == 0 ? 4096 : into->capacity;
        while (count > capacity - into->count) {
            capacity *= 2;
        }
        unsigned char *grown = realloc(into->memory, capacity);
        if (grown == NULL) {
            return false;
        }
        into->memory = grown;
        into->capacity = capacity;
    }
    if (count > 0) {
        memcpy(into->memory + into->count, bytes, count);
    }
    into->count += count;
    return true;
}

static bool make_folders(const char *folder, struct failure *why) {
    char *path = strdup(folder);
    if (path == NULL) {
        return fail(why, "out_of_memory", "no memory for a path");
    }
    for (char *end = path; *end != '\0'; end++) {
        if (*end == '/' && end != path) {
            *end = '\0';
            (void)mkdir(path, 0777); /* the last one says whether all is well */
            *end = '/';
        }
    }
    bool is_made = mkdir(path, 0777) == 0 || errno == EEXIST;
    if (!is_made) {
        (void)fail(why, "unwritable", "the folder %s cannot be made: %s", folder, strerror(errno));
    }
    free(path);
    return is_made;
}

static bool write_file(const char *path, const struct bytes *content, struct failure *why) {
    FILE *file = fopen(path, "wb");
    bool is_written = file != NULL && (content->count == 0 ||
                                       fwrite(content->memory, 1, content->count, file) == content->count);
    int problem = errno;
    if (file != NULL && fclose(file) != 0 && is_written) {
        problem = errno;
        is_written = false;
    }
    const char *kind = problem == ENOSPC ? "no_space" : "unwritable";
    return is_written || fail(why, kind, "%s cannot be written: %s", path, strerror(problem));
}

static double real_value(const struct tensor *tensor, const unsigned char *item) {
    union {
        float f32;
        double f64;
        int8_t i8;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        uint8_t u8;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
    } value;
    memcpy(&value, item, tensor->item_bytes);
    bool is_float = tensor->dtype[0] == 'f', is_signed = tensor->dtype[0] == 'i';
    switch (tensor->item_bytes) {
        case 1: return is_signed ? (double)value.i8 : (double)value.u8;
        case 2: return is_float ? half_value(value.u16) : is_signed ? (double)value.i16 : (double)value.u16;
        case 4: return is_float ? (double)value.f32 : is_signed ? (double)value.i32 : (double)value.u32;
        default: return is_float ? value.f64 : is_signed ? (double)value.i64 : (double)value.u64;
    }
}

/* Source: IEEE 754-2008, binary16. */
static double half_value(uint16_t bits) {
    int exponent = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
    double size = exponent == 0x1f ? (fraction == 0 ? HUGE_VAL : NAN)
                  : exponent == 0  ? ldexp(fraction, -24)
                                   : ldexp(fraction + 1024, exponent - 25);
    return bits >> 15 == 0 ? size : -size;
}

/* The real ONNX Runtime (-DREAL="path"), which says that it has NNAPI, CUDA and TensorRT as well.
 *
 * NNAPI's function is here, and says on standard error what it was asked; the other two providers' are the real ones,
 * which refuse where they are not built in. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*function)(void);
struct api_base {
    const function *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

enum { GET_AVAILABLE_PROVIDERS = 125, RELEASE_AVAILABLE_PROVIDERS = 126, PLACES = 420 };

static const struct api_base *real_base;
static function table[PLACES];

static void *get_available_providers(char ***names, int *count) {
    static char *known[] = {"NnapiExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider",
                            "CPUExecutionProvider"};
    *names = known;
    *count = 4;
    return NULL;
}

static void *release_available_providers(char **names, int count) {
    (void)names;
    (void)count;
    return NULL;
}

static const function *get_api(uint32_t version) {
    const function *real = real_base->get_api(version);
    if (real == NULL) {
        return NULL;
    }
    memcpy(table, real, sizeof table);
    table[GET_AVAILABLE_PROVIDERS] = (function)get_available_providers;
    table[RELEASE_AVAILABLE_PROVIDERS] = (function)release_available_providers;
    return table;
}

const struct api_base *OrtGetApiBase(void) {
    static struct api_base ours;
    void *real = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
    const struct api_base *(*get_base)(void) = (const struct api_base *(*)(void))dlsym(real, "OrtGetApiBase");
    real_base = get_base();
    ours.get_api = get_api;
    ours.get_version = real_base->get_version;
    return &ours;
}

#ifdef NNAPI
void *OrtSessionOptionsAppendExecutionProvider_Nnapi(void *options, uint32_t flags) {
    (void)options;
    fprintf(stderr, "NNAPI was asked for with the flags %u\n", flags);
    return NULL;
}
#endif

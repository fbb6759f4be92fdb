#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t tensor_items(const struct tensor *tensor, size_t first) {
    int64_t items = 1;
    for (size_t axis = first; axis < tensor->rank; axis++) {
        if (tensor->shape[axis] < 0 || (tensor->shape[axis] > 0 && items > INT64_MAX / 64 / tensor->shape[axis])) {
            return -1;
        }
        items *= tensor->shape[axis];
    }
    return items;
}

void session_free_description(struct session *session) {
    for (size_t index = 0; index < session->input_count; index++) {
        free(session->inputs[index].name);
    }
    for (size_t index = 0; index < session->output_count; index++) {
        free(session->outputs[index].name);
    }
    free(session->inputs);
    free(session->outputs);
    free(session->placement.fallback_reason);
    *session = (struct session){0};
}

void placement_add(struct placement *placement, const char *name, int64_t nodes) {
    size_t limit = sizeof placement->by_accelerator / sizeof *placement->by_accelerator;
    for (size_t index = 0; index < placement->accelerators; index++) {
        if (strcmp(placement->by_accelerator[index].name, name) == 0) {
            placement->by_accelerator[index].nodes += nodes;
            return;
        }
    }
    if (placement->accelerators < limit) {
        struct accelerator_nodes *added = &placement->by_accelerator[placement->accelerators++];
        (void)snprintf(added->name, sizeof added->name, "%s", name);
        added->nodes = nodes;
    }
}

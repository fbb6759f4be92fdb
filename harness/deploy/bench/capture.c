#include "capture.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const int DEADLY[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE};
#define DEADLY_COUNT (sizeof DEADLY / sizeof *DEADLY)

static int pipe_end = -1;
static int real_stderr = -1;
static struct sigaction before[DEADLY_COUNT];

static void hand_over_and_die(int signal_number);

void capture_begin(void) {
    int ends[2];
    if (pipe(ends) != 0) {
        return;
    }
    /* A full pipe loses text rather than stopping the runtime: nobody reads while it loads. */
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    (void)fcntl(ends[1], F_SETFL, O_NONBLOCK);
    real_stderr = dup(STDERR_FILENO);
    pipe_end = ends[0];
    (void)dup2(ends[1], STDERR_FILENO);
    (void)close(ends[1]);
    struct sigaction action = {.sa_handler = hand_over_and_die, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};
    (void)sigemptyset(&action.sa_mask);
    for (size_t index = 0; index < DEADLY_COUNT; index++) {
        (void)sigaction(DEADLY[index], &action, &before[index]);
    }
}

void capture_end(char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    if (pipe_end < 0) {
        return;
    }
    for (size_t index = 0; index < DEADLY_COUNT; index++) {
        (void)sigaction(DEADLY[index], &before[index], NULL);
    }
    (void)dup2(real_stderr, STDERR_FILENO);
    char chunk[512];
    for (ssize_t count = read(pipe_end, chunk, sizeof chunk); count > 0; count = read(pipe_end, chunk, sizeof chunk)) {
        (void)!write(STDERR_FILENO, chunk, (size_t)count);
        size_t added = (size_t)count < size - 1 ? (size_t)count : size - 1;
        if (length + added > size - 1) {
            size_t dropped = length + added - (size - 1);
            memmove(text, text + dropped, length - dropped);
            length -= dropped;
        }
        memcpy(text + length, chunk + (size_t)count - added, added);
        length += added;
    }
    text[length] = '\0';
    (void)close(pipe_end);
    (void)close(real_stderr);
    pipe_end = real_stderr = -1;
}

/* Only calls that signal-safety(7) allows. */
static void hand_over_and_die(int signal_number) {
    char chunk[512];
    for (ssize_t count = read(pipe_end, chunk, sizeof chunk); count > 0; count = read(pipe_end, chunk, sizeof chunk)) {
        (void)!write(real_stderr, chunk, (size_t)count);
    }
    (void)raise(signal_number); /* SA_RESETHAND: now with its default effect */
}

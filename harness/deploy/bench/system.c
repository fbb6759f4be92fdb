#include "system.h"

#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "loop.h"
#include "sha256.h"

#ifndef SYSFS
#define SYSFS "/sys" /* a test has one of its own */
#endif
#define CANARY_BYTES (1u << 20)
#define CANARY_REPEATS 4

static double steal_ms(void);
static int64_t involuntary_switches(void);
static double throttle_events(void);
static double processor_celsius(void);
static double clock_hz(void);
static bool is_processor_sensor(const char *path);
static size_t clock_caps_hz(uint64_t caps_hz[CLOCKS_MAX]);
static double read_number(const char *path);
static int64_t read_kilobytes(const char *path, const char *key);

uint64_t canary_ns(void) {
    static unsigned char work[CANARY_BYTES];
    memset(work, 0x5a, sizeof work); /* present before the clock starts */
    char digest[65];
    uint64_t began = clock_ns();
    for (int repeat = 0; repeat < CANARY_REPEATS; repeat++) {
        struct sha256 hash;
        sha256_begin(&hash);
        sha256_add(&hash, work, sizeof work);
        sha256_end(&hash, digest);
        work[repeat] = (unsigned char)digest[0]; /* each repeat needs the one before: none can be left out */
    }
    return clock_ns() - began;
}

int thread_count(void) {
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) {
        return UNKNOWN;
    }
    int count = 0;
    for (struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks)) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(tasks);
    return count;
}

bool allowed_processors(char *text, size_t size) {
    static const char key[] = "Cpus_allowed_list:";
    FILE *file = fopen("/proc/self/status", "r");
    if (file == NULL) {
        return false;
    }
    bool found = false;
    char line[PROCESSORS_TEXT + sizeof key];
    while (!found && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, sizeof key - 1) == 0) {
            const char *list = line + sizeof key - 1;
            list += strspn(list, " \t");
            size_t length = strcspn(list, " \t\r\n");
            if (length > 0 && length < size) {
                memcpy(text, list, length);
                text[length] = '\0';
                found = true;
            }
        }
    }
    (void)fclose(file);
    return found;
}

/* Some phones have eighty zones, some of which are slow to read: after blocks of milliseconds not each time. */
static bool is_time_for_sensors(void) {
    static uint64_t read_at_ns;
    uint64_t now_ns = clock_ns();
    if (read_at_ns != 0 && now_ns - read_at_ns < SENSORS_EVERY_NS) {
        return false;
    }
    read_at_ns = now_ns;
    return true;
}

void conditions_begin(struct conditions *conditions) {
    conditions->throttle_events = (int64_t)throttle_events();
    conditions->clocks = clock_caps_hz(conditions->cpu_caps_hz);
    conditions->steal_ms = steal_ms();
    conditions->involuntary_switches = involuntary_switches();
}

void conditions_end(struct conditions *conditions) {
    int64_t switches = involuntary_switches();
    double steal = steal_ms();
    int64_t throttles = (int64_t)throttle_events();
    bool is_time = is_time_for_sensors();
    bool steal_known = steal >= 0 && conditions->steal_ms >= 0;
    bool throttles_known = throttles >= 0 && conditions->throttle_events >= 0;
    conditions->involuntary_switches = switches - conditions->involuntary_switches;
    conditions->steal_ms = steal_known ? steal - conditions->steal_ms : NAN;
    conditions->throttle_events = throttles_known ? throttles - conditions->throttle_events : UNKNOWN;
    uint64_t caps_hz[CLOCKS_MAX];
    size_t clocks = clock_caps_hz(caps_hz);
    for (size_t clock = 0; clock < clocks; clock++) { /* a limit that rose meanwhile was lower for a part of the block */
        bool was_lower = clocks == conditions->clocks && conditions->cpu_caps_hz[clock] < caps_hz[clock];
        conditions->cpu_caps_hz[clock] = was_lower ? conditions->cpu_caps_hz[clock] : caps_hz[clock];
    }
    conditions->clocks = clocks;
    conditions->cpu_cap_hz = conditions->clocks == 0 ? NAN : (double)conditions->cpu_caps_hz[0];
    for (size_t clock = 1; clock < conditions->clocks; clock++) {
        conditions->cpu_cap_hz = fmin(conditions->cpu_cap_hz, (double)conditions->cpu_caps_hz[clock]);
    }
    conditions->temperature_celsius = is_time ? processor_celsius() : NAN;
    conditions->cpu_hz = is_time ? clock_hz() : NAN;
}

bool reset_peak_memory(void) {
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file == NULL) {
        return false;
    }
    bool written = fputs("5", file) >= 0;
    return fclose(file) == 0 && written;
}

struct memory memory_now(bool peak) {
    const char *rollup = "/proc/self/smaps_rollup"; /* Linux 4.14; not readable in every sandbox */
    return (struct memory){
        .resident_bytes = read_kilobytes("/proc/self/status", peak ? "VmHWM:" : "VmRSS:"),
        .pss_bytes = read_kilobytes(rollup, "Pss:"),
        .private_dirty_bytes = read_kilobytes(rollup, "Private_Dirty:"),
        .rss_anon_bytes = read_kilobytes("/proc/self/status", "RssAnon:"), /* Linux 4.5 */
    };
}

/* Time the hypervisor kept from all processors since boot. Source: proc(5), /proc/stat, eighth number of `cpu`. */
static double steal_ms(void) {
    FILE *file = fopen("/proc/stat", "r");
    if (file == NULL) { /* Android keeps it from programs without root */
        return UNKNOWN;
    }
    unsigned long long ticks = 0;
    int found = fscanf(file, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &ticks);
    (void)fclose(file);
    return found == 1 ? (double)ticks * 1000 / (double)sysconf(_SC_CLK_TCK) : UNKNOWN;
}

static int64_t involuntary_switches(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nivcsw;
}

/* Gives `take` the path of each `folder/PREFIX<digit>...`. */
static void for_each_numbered(const char *folder, const char *prefix,
                              void (*take)(const char *path, double *result), double *result) {
    DIR *entries = opendir(folder);
    if (entries == NULL) {
        return;
    }
    size_t length = strlen(prefix);
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        if (strncmp(entry->d_name, prefix, length) == 0 && isdigit((unsigned char)entry->d_name[length])) {
            char path[512];
            (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            take(path, result);
        }
    }
    (void)closedir(entries);
}

static double number_in(const char *folder, const char *file) {
    char path[640];
    (void)snprintf(path, sizeof path, "%s/%s", folder, file);
    return read_number(path);
}

static void add_throttles(const char *path, double *sum) {
    double count = number_in(path, "thermal_throttle/core_throttle_count");
    if (!isnan(count)) {
        *sum = isnan(*sum) ? count : *sum + count;
    }
}

/* How often the cores throttled since boot; UNKNOWN where none says so. */
static double throttle_events(void) {
    double sum = NAN;
    for_each_numbered(SYSFS "/devices/system/cpu", "cpu", add_throttles, &sum);
    return isnan(sum) ? UNKNOWN : sum;
}

/* Zones of a battery, a charger or a modem are none of the processor's, and one that is switched off says 0 or less. */
static void take_hottest(const char *path, double *hottest) {
    if (!is_processor_sensor(path)) {
        return;
    }
    double celsius = number_in(path, "temp") / 1e3; /* in thousandths of a degree */
    if (celsius >= 1 && celsius <= 150) {
        *hottest = isnan(*hottest) ? celsius : fmax(*hottest, celsius);
    }
}

static double processor_celsius(void) {
    double hottest = NAN;
    for_each_numbered(SYSFS "/class/thermal", "thermal_zone", take_hottest, &hottest);
    return hottest;
}

static bool is_in_word(char letter) {
    return isalnum((unsigned char)letter) || letter == '_';
}

/* By its name: PROCESSOR_SENSOR of harness/protocol.py. */
static bool is_processor_sensor(const char *path) {
    static const char *const names[] = {"coretemp", "k10temp", "zenpower", "x86_pkg_temp", "cpu", "soc"};
    static const char *const whole[] = {"big", "mid", "little"};
    char type_path[640];
    (void)snprintf(type_path, sizeof type_path, "%s/type", path);
    char type[64] = "";
    FILE *file = fopen(type_path, "r");
    if (file == NULL) {
        return false;
    }
    bool is_read = fgets(type, sizeof type, file) != NULL;
    (void)fclose(file);
    for (char *letter = type; *letter != '\0'; letter++) {
        *letter = (char)tolower((unsigned char)*letter);
    }
    bool found = false;
    for (size_t index = 0; is_read && index < sizeof names / sizeof *names; index++) {
        found = found || strstr(type, names[index]) != NULL;
    }
    for (size_t index = 0; is_read && index < sizeof whole / sizeof *whole; index++) {
        size_t length = strlen(whole[index]);
        for (const char *at = strstr(type, whole[index]); at != NULL; at = strstr(at + 1, whole[index])) {
            found = found || ((at == type || !is_in_word(at[-1])) && !is_in_word(at[length]));
        }
    }
    return found;
}

/* Source: Documentation/admin-guide/pm/cpufreq.rst, scaling_cur_freq in kHz. */
static double clock_hz(void) {
    int processor = sched_getcpu();
    if (processor < 0) {
        return NAN;
    }
    char path[128];
    (void)snprintf(path, sizeof path, SYSFS "/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", processor);
    return 1e3 * read_number(path);
}

/* The upper limit of each clock, by the number of its first processor. Returns how many there are; 0 where one of them
 * cannot be read, since which is which would not be known. Source: Documentation/admin-guide/pm/cpufreq.rst. */
static size_t clock_caps_hz(uint64_t caps_hz[CLOCKS_MAX]) {
    static const char folder[] = SYSFS "/devices/system/cpu/cpufreq";
    static const char prefix[] = "policy";
    DIR *entries = opendir(folder);
    if (entries == NULL) {
        return 0;
    }
    long numbers[CLOCKS_MAX];
    size_t count = 0;
    bool known = true;
    for (struct dirent *entry = readdir(entries); entry != NULL && known; entry = readdir(entries)) {
        char *end = entry->d_name;
        long number = -1;
        if (strncmp(entry->d_name, prefix, sizeof prefix - 1) == 0) {
            number = strtol(entry->d_name + sizeof prefix - 1, &end, 10);
        }
        if (number < 0 || *end != '\0') {
            continue;
        }
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s/scaling_max_freq", folder, entry->d_name);
        double khz = read_number(path);
        known = !isnan(khz) && count < CLOCKS_MAX;
        if (known) {
            size_t place = count++;
            for (; place > 0 && numbers[place - 1] > number; place--) {
                numbers[place] = numbers[place - 1];
                caps_hz[place] = caps_hz[place - 1];
            }
            numbers[place] = number;
            caps_hz[place] = (uint64_t)(khz * 1e3);
        }
    }
    (void)closedir(entries);
    return known ? count : 0;
}

static double read_number(const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return NAN;
    }
    double value = NAN;
    if (fscanf(file, "%lf", &value) != 1) {
        value = NAN;
    }
    (void)fclose(file);
    return value;
}

static int64_t read_kilobytes(const char *path, const char *key) {
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return UNKNOWN;
    }
    char text[256];
    long long kilobytes = UNKNOWN;
    size_t length = strlen(key);
    while (fgets(text, sizeof text, file) != NULL) {
        if (strncmp(text, key, length) == 0 && sscanf(text + length, "%lld", &kilobytes) == 1) {
            break;
        }
    }
    (void)fclose(file);
    return kilobytes == UNKNOWN ? UNKNOWN : (int64_t)kilobytes * 1024;
}

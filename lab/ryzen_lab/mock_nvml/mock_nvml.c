/* A libnvidia-ml.so.1 without a GPU: the real bindings (nvidia-ml-py) load it in place of NVIDIA's.
 *
 * What its GPUs say stands in the file `state` beside the library (found by dladdr, so that no variable has to tell):
 *
 *     count 8                    of the driver:  KEY VALUE          (keys: DRIVER_KEYS below)
 *     3.temperature_c 93         of one GPU:     GPU.KEY VALUE      (keys: GPU_KEYS below, with their defaults)
 *     3.rows_pending !3          a value !N makes that reading fail with NVML error N (3: not supported)
 *     event 7 3 8 79             event number 7: GPU 3, event type 0x8 (Xid), data 79; numbers grow
 *
 * The file is read again when it has been replaced (rename), looked for at most once a millisecond: a call costs a
 * clock reading and a lock, so that a benchmark measures the caller and not this. Power limits that are set go to the
 * file `power_limits`, a line "GPU MILLIWATTS" each, and hold on after the process as they do in a real GPU.
 *
 * -DOLD_DRIVER leaves out the functions that drivers before 535 do not have.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, TIMEOUT = 10, GPU_IS_LOST = 15,
};

#define MAX_GPUS 16
#define MAX_EVENTS 256

/* hang: every call blocks while it is 1. no_permission: changes are refused. node: goes into the UUIDs. */
#define DRIVER_KEYS(X) X(count, 8) X(init_error, 0) X(hang, 0) X(hang_events, 0) X(no_permission, 0) X(node, 0)

/* error: what every call about this GPU returns (15: lost). hang: they block while it is 1. Masks: bit N is link N. */
#define GPU_KEYS(X)                                                                                                  \
    X(error, 0) X(hang, 0) X(model, 0)                                                                               \
    X(temperature_c, 45) X(memory_temperature_c, 52) X(margin_c, 42)                                                 \
    X(shutdown_c, 92) X(slowdown_c, 89) X(gpu_max_c, 87) X(memory_max_c, 95)                                         \
    X(clock_event_reasons, 1)                                                                                        \
    X(power_mw, 120000) X(default_limit_mw, 700000) X(min_limit_mw, 200000) X(max_limit_mw, 700000)                  \
    X(energy_mj, 1000000) X(utilization_percent, 0) X(memory_utilization_percent, 0)                                 \
    X(memory_total_bytes, 85899345920) X(memory_used_bytes, 1073741824)                                              \
    X(ecc_corrected_volatile, 0) X(ecc_uncorrected_volatile, 0)                                                      \
    X(ecc_corrected_aggregate, 0) X(ecc_uncorrected_aggregate, 0) X(sram_threshold_exceeded, 0)                      \
    X(rows_corrected, 0) X(rows_uncorrected, 0) X(rows_pending, 0) X(rows_failed, 0)                                 \
    X(retired_single_bit, 0) X(retired_double_bit, 0) X(retired_pending, 0)                                          \
    X(nvlinks, 18) X(nvlink_down_mask, 0) X(nvlink_replay, 0) X(nvlink_recovery, 0)                                  \
    X(nvlink_crc_flit, 0) X(nvlink_crc_data, 0) X(nvlink_ecc_data, 0) X(nvlink_error_link, 0)                        \
    X(pcie_width, 16) X(pcie_width_max, 16) X(pcie_generation, 5) X(pcie_generation_max, 5) X(pcie_replays, 0)       \
    X(recovery_action, 0) X(fabric_state, 3) X(fabric_status, 0) X(fabric_health, 0)                                 \
    X(mig, 0) X(persistence, 1) X(pid, 0)

#define NAME_IN_ENUM(name, value) G_##name,
#define NAME_IN_DRIVER_ENUM(name, value) D_##name,
#define TEXT(name, value) #name,
#define VALUE(name, value) value,
enum { GPU_KEYS(NAME_IN_ENUM) GPU_KEY_COUNT };
enum { DRIVER_KEYS(NAME_IN_DRIVER_ENUM) DRIVER_KEY_COUNT };
static const char *const gpu_names[] = {GPU_KEYS(TEXT)};
static const char *const driver_names[] = {DRIVER_KEYS(TEXT)};
static const long long gpu_defaults[] = {GPU_KEYS(VALUE)};
static const long long driver_defaults[] = {DRIVER_KEYS(VALUE)};

typedef struct { long long value[GPU_KEY_COUNT]; int error[GPU_KEY_COUNT]; } Gpu;
typedef struct { long long sequence; int gpu; unsigned long long type, data; } Event;
typedef struct { long long seen; unsigned long long types[MAX_GPUS]; int inotify; } EventSet;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX], state_path[PATH_MAX + 16], limits_path[PATH_MAX + 16];
static char handles[MAX_GPUS];  /* a handle is the address of its byte */
static Gpu gpus[MAX_GPUS];
static long long driver[DRIVER_KEY_COUNT], limits_mw[MAX_GPUS];
static Event events[MAX_EVENTS];
static int event_count, initialized;
static struct timespec state_mtime;
static ino_t state_inode;
static long long looked_ns;

/* ------------------------------------------------------------------ the state file */

static void defaults(void) {
    memcpy(driver, driver_defaults, sizeof driver);
    for (int each = 0; each < MAX_GPUS; each++) {
        memcpy(gpus[each].value, gpu_defaults, sizeof gpu_defaults);
        memset(gpus[each].error, 0, sizeof gpus[each].error);
    }
    event_count = 0;
}

static int index_of(const char *const *names, int count, const char *name) {
    for (int each = 0; each < count; each++)
        if (!strcmp(names[each], name)) return each;
    return -1;
}

static void take_line(const char *line) {
    char name[64], value[32];
    int gpu, key;
    Event event;
    if (sscanf(line, "event %lld %d %llu %llu", &event.sequence, &event.gpu, &event.type, &event.data) == 4) {
        if (event_count < MAX_EVENTS) events[event_count++] = event;
    } else if (sscanf(line, "%d.%63s %31s", &gpu, name, value) == 3 && gpu >= 0 && gpu < MAX_GPUS) {
        if ((key = index_of(gpu_names, GPU_KEY_COUNT, name)) < 0) return;
        gpus[gpu].error[key] = value[0] == '!' ? atoi(value + 1) : 0;
        if (value[0] != '!') gpus[gpu].value[key] = atoll(value);
    } else if (sscanf(line, "%63s %31s", name, value) == 2) {
        if ((key = index_of(driver_names, DRIVER_KEY_COUNT, name)) >= 0) driver[key] = atoll(value);
    }
}

static void read_state(void) {
    char line[128];
    FILE *file = fopen(state_path, "re");
    defaults();
    if (!file) return;
    while (fgets(line, sizeof line, file)) take_line(line);
    fclose(file);
}

static void refresh(int now) {  /* with the lock held */
    struct timespec clock;
    struct stat status;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &clock);
    long long ns = clock.tv_sec * 1000000000LL + clock.tv_nsec;
    if (!now && ns - looked_ns < 1000000) return;
    looked_ns = ns;
    if (stat(state_path, &status)) memset(&status, 0, sizeof status);
    if (status.st_ino == state_inode && !memcmp(&status.st_mtim, &state_mtime, sizeof state_mtime)) return;
    state_inode = status.st_ino;
    state_mtime = status.st_mtim;
    read_state();
}

static void find_folder(void) {
    Dl_info here;
    char path[PATH_MAX];
    dladdr((void *)find_folder, &here);
    snprintf(path, sizeof path, "%s", here.dli_fname);
    snprintf(folder, sizeof folder, "%s", dirname(path));
    snprintf(state_path, sizeof state_path, "%s/state", folder);
    snprintf(limits_path, sizeof limits_path, "%s/power_limits", folder);
}

static void read_limits(void) {
    int gpu;
    long long mw;
    FILE *file = fopen(limits_path, "re");
    memset(limits_mw, 0, sizeof limits_mw);
    if (!file) return;
    while (fscanf(file, "%d %lld", &gpu, &mw) == 2)
        if (gpu >= 0 && gpu < MAX_GPUS) limits_mw[gpu] = mw;
    fclose(file);
}

/* ------------------------------------------------------------------ how every call begins */

static void nap(void) { usleep(10000); }

static long long driver_value(int key) {
    pthread_mutex_lock(&lock);
    refresh(0);
    long long value = driver[key];
    pthread_mutex_unlock(&lock);
    return value;
}

static int gpu_of(const void *handle) { return (int)((const char *)handle - handles); }

/* Blocks while the GPU or the driver hangs. 0, or the error that this reading of this GPU gives. */
static int reading(const void *handle, int key, long long *value) {
    int gpu = gpu_of(handle), result;
    if (!initialized) return UNINITIALIZED;
    if (gpu < 0 || gpu >= MAX_GPUS) return INVALID_ARGUMENT;
    for (;;) {
        pthread_mutex_lock(&lock);
        refresh(0);
        int hangs = driver[D_hang] || gpus[gpu].value[G_hang];
        if (!hangs) break;
        pthread_mutex_unlock(&lock);
        nap();
    }
    result = gpu >= driver[D_count] ? GPU_IS_LOST : (int)gpus[gpu].value[G_error];
    if (!result) result = gpus[gpu].error[key];
    if (!result) *value = gpus[gpu].value[key];
    pthread_mutex_unlock(&lock);
    return result;
}

#define UINT(function, key)                                                                                          \
    int function(void *handle, unsigned *out) {                                                                      \
        long long value;                                                                                             \
        int result = reading(handle, G_##key, &value);                                                               \
        if (!result) *out = (unsigned)value;                                                                         \
        return result;                                                                                               \
    }
#define ULONG(function, key)                                                                                         \
    int function(void *handle, unsigned long long *out) {                                                            \
        long long value;                                                                                             \
        int result = reading(handle, G_##key, &value);                                                               \
        if (!result) *out = (unsigned long long)value;                                                               \
        return result;                                                                                               \
    }

/* ------------------------------------------------------------------ driver and identity */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    find_folder();
    while (driver_value(D_hang)) nap();
    int error = (int)driver_value(D_init_error);
    if (!error) {
        read_limits();
        initialized = 1;
    }
    return error;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return initialized ? OK : UNINITIALIZED; }
const char *nvmlErrorString(int error) { (void)error; return "mock driver"; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { snprintf(text, length, "595.45.04"); return OK; }
int nvmlSystemGetNVMLVersion(char *text, unsigned length) { snprintf(text, length, "13.595.45.04"); return OK; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (!initialized) return UNINITIALIZED;
    while (driver_value(D_hang)) nap();
    *count = (unsigned)driver_value(D_count);
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    long long value;
    if (index >= (unsigned)driver_value(D_count) || index >= MAX_GPUS) return INVALID_ARGUMENT;
    *handle = &handles[index];
    return reading(*handle, G_error, &value);
}

int nvmlDeviceGetIndex(void *handle, unsigned *out) { *out = (unsigned)gpu_of(handle); return OK; }

int nvmlDeviceGetUUID(void *handle, char *text, unsigned length) {
    long long value;
    int result = reading(handle, G_error, &value);
    if (!result) snprintf(text, length, "GPU-%08llx-0000-4000-8000-%012x", driver_value(D_node), gpu_of(handle));
    return result;
}

int nvmlDeviceGetName(void *handle, char *text, unsigned length) {
    long long model;
    int result = reading(handle, G_model, &model);
    if (result) return result;
    if (model) snprintf(text, length, "Mock GPU %lld", model);
    else snprintf(text, length, "NVIDIA H100 80GB HBM3");
    return OK;
}

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
} PciInfo;

int nvmlDeviceGetPciInfo_v3(void *handle, PciInfo *info) {
    long long value;
    int result = reading(handle, G_error, &value), bus = 0x10 * (gpu_of(handle) + 1);
    if (result) return result;
    memset(info, 0, sizeof *info);
    info->bus = (unsigned)bus & 0xff;
    info->domain = (unsigned)bus >> 8;
    info->id = 0x233010de;
    snprintf(info->legacy, sizeof info->legacy, "%04x:%02x:00.0", info->domain, info->bus);
    snprintf(info->bus_id, sizeof info->bus_id, "%08x:%02x:00.0", info->domain, info->bus);
    return OK;
}

UINT(nvmlDeviceGetPersistenceMode, persistence)

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    long long value;
    int result = reading(handle, G_mig, &value);
    if (!result) *current = *pending = (unsigned)value;
    return result;
}

/* ------------------------------------------------------------------ heat, power, load */

int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *out) {
    long long value;
    int result = sensor ? INVALID_ARGUMENT : reading(handle, G_temperature_c, &value);
    if (!result) *out = (unsigned)value;
    return result;
}

int nvmlDeviceGetTemperatureThreshold(void *handle, unsigned which, unsigned *out) {
    static const int keys[] = {G_shutdown_c, G_slowdown_c, G_memory_max_c, G_gpu_max_c};
    long long value;
    int result = which > 3 ? NOT_SUPPORTED : reading(handle, keys[which], &value);
    if (!result) *out = (unsigned)value;
    return result;
}

ULONG(nvmlDeviceGetCurrentClocksThrottleReasons, clock_event_reasons)
UINT(nvmlDeviceGetPowerUsage, power_mw)
UINT(nvmlDeviceGetPowerManagementDefaultLimit, default_limit_mw)
ULONG(nvmlDeviceGetTotalEnergyConsumption, energy_mj)

int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, unsigned *low, unsigned *high) {
    long long from, to;
    int result = reading(handle, G_min_limit_mw, &from);
    if (!result) result = reading(handle, G_max_limit_mw, &to);
    if (!result) *low = (unsigned)from, *high = (unsigned)to;
    return result;
}

int nvmlDeviceGetPowerManagementLimit(void *handle, unsigned *out) {
    long long value;
    int result = reading(handle, G_default_limit_mw, &value), gpu = gpu_of(handle);
    if (!result) *out = (unsigned)(limits_mw[gpu] ? limits_mw[gpu] : value);
    return result;
}
int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *out) {
    return nvmlDeviceGetPowerManagementLimit(handle, out);
}

int nvmlDeviceSetPowerManagementLimit(void *handle, unsigned mw) {
    unsigned low, high;
    int result = nvmlDeviceGetPowerManagementLimitConstraints(handle, &low, &high), gpu = gpu_of(handle);
    if (result) return result;
    if (driver_value(D_no_permission)) return NO_PERMISSION;
    if (mw < low || mw > high) return INVALID_ARGUMENT;
    FILE *file = fopen(limits_path, "ae");
    if (!file) return NO_PERMISSION;
    fprintf(file, "%d %u\n", gpu, mw);
    fclose(file);
    limits_mw[gpu] = mw;
    return OK;
}

int nvmlDeviceGetUtilizationRates(void *handle, unsigned *out) {
    long long gpu, memory;
    int result = reading(handle, G_utilization_percent, &gpu);
    if (!result) result = reading(handle, G_memory_utilization_percent, &memory);
    if (!result) out[0] = (unsigned)gpu, out[1] = (unsigned)memory;
    return result;
}

int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *out) {
    long long total, used;
    int result = reading(handle, G_memory_total_bytes, &total);
    if (!result) result = reading(handle, G_memory_used_bytes, &used);
    if (!result) out[0] = (unsigned long long)total, out[1] = (unsigned long long)(total - used), out[2] = (unsigned long long)used;
    return result;
}

typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } Process;

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *out) {
    long long pid, used;
    int result = reading(handle, G_pid, &pid);
    if (!result) result = reading(handle, G_memory_used_bytes, &used);
    if (result) return result;
    unsigned room = *count;
    *count = pid ? 1 : 0;
    if (!pid) return OK;
    if (!out || !room) return INSUFFICIENT_SIZE;
    *out = (Process){(unsigned)pid, (unsigned long long)used, UINT_MAX, UINT_MAX};
    return OK;
}

/* ------------------------------------------------------------------ errors of memory */

int nvmlDeviceGetTotalEccErrors(void *handle, unsigned uncorrected, unsigned aggregate, unsigned long long *out) {
    static const int keys[2][2] = {
        {G_ecc_corrected_volatile, G_ecc_corrected_aggregate},
        {G_ecc_uncorrected_volatile, G_ecc_uncorrected_aggregate},
    };
    long long value;
    int result = uncorrected > 1 || aggregate > 1 ? INVALID_ARGUMENT : reading(handle, keys[uncorrected][aggregate], &value);
    if (!result) *out = (unsigned long long)value;
    return result;
}

int nvmlDeviceGetRemappedRows(void *handle, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    static const int keys[] = {G_rows_corrected, G_rows_uncorrected, G_rows_pending, G_rows_failed};
    unsigned *outs[] = {corrected, uncorrected, pending, failed};
    for (int each = 0; each < 4; each++) {
        long long value;
        int result = reading(handle, keys[each], &value);
        if (result) return result;
        *outs[each] = (unsigned)value;
    }
    return OK;
}

int nvmlDeviceGetRetiredPages_v2(void *handle, unsigned cause, unsigned *count, unsigned long long *pages, unsigned long long *times) {
    long long value;
    int result = reading(handle, cause ? G_retired_double_bit : G_retired_single_bit, &value);
    if (result) return result;
    unsigned room = *count;
    *count = (unsigned)value;
    if (value && (!pages || room < (unsigned)value)) return INSUFFICIENT_SIZE;
    for (unsigned each = 0; each < (unsigned)value; each++) pages[each] = each, times[each] = 0;
    return OK;
}
UINT(nvmlDeviceGetRetiredPagesPendingStatus, retired_pending)

/* ------------------------------------------------------------------ links */

int nvmlDeviceGetNvLinkState(void *handle, unsigned link, unsigned *active) {
    long long links, down;
    int result = reading(handle, G_nvlinks, &links);
    if (!result) result = reading(handle, G_nvlink_down_mask, &down);
    if (result) return result;
    if (link >= (unsigned)links) return INVALID_ARGUMENT;
    *active = !(down >> link & 1);
    return OK;
}

int nvmlDeviceGetNvLinkErrorCounter(void *handle, unsigned link, unsigned counter, unsigned long long *out) {
    static const int keys[] = {G_nvlink_replay, G_nvlink_recovery, G_nvlink_crc_flit, G_nvlink_crc_data, G_nvlink_ecc_data};
    long long value, on, links;
    int result = counter > 4 ? INVALID_ARGUMENT : reading(handle, keys[counter], &value);
    if (!result) result = reading(handle, G_nvlink_error_link, &on);
    if (!result) result = reading(handle, G_nvlinks, &links);
    if (!result && link >= (unsigned)links) result = INVALID_ARGUMENT;
    if (!result) *out = link == (unsigned)on ? (unsigned long long)value : 0;
    return result;
}

UINT(nvmlDeviceGetCurrPcieLinkWidth, pcie_width)
UINT(nvmlDeviceGetMaxPcieLinkWidth, pcie_width_max)
UINT(nvmlDeviceGetCurrPcieLinkGeneration, pcie_generation)
UINT(nvmlDeviceGetMaxPcieLinkGeneration, pcie_generation_max)
UINT(nvmlDeviceGetPcieReplayCounter, pcie_replays)

typedef struct {
    unsigned id, scope;
    long long timestamp, latency;
    unsigned type, result;
    union { double d; unsigned u; unsigned long long ull; } value;
} Field;

static int field_key(unsigned id) {
    switch (id) {
    case 38: return G_nvlink_crc_flit;
    case 45: return G_nvlink_crc_data;
    case 52: return G_nvlink_replay;
    case 59: return G_nvlink_recovery;
    case 82: return G_memory_temperature_c;
    case 91: return G_nvlinks;
    case 94: return G_pcie_replays;
    case 160: return G_nvlink_ecc_data;
    case 230: return G_recovery_action;
    default: return -1;
    }
}

int nvmlDeviceGetFieldValues(void *handle, int count, Field *fields) {
    long long value;
    int result = reading(handle, G_error, &value);
    if (result) return result;
    for (int each = 0; each < count; each++) {
        int key = field_key(fields[each].id);
#ifdef OLD_DRIVER
        if (fields[each].id > 200) key = -1;
#endif
        fields[each].result = key < 0 ? INVALID_ARGUMENT : (unsigned)reading(handle, key, &value);
        fields[each].type = 1;
        fields[each].value.ull = fields[each].result ? 0 : (unsigned long long)value;
    }
    return OK;
}

/* ------------------------------------------------------------------ what old drivers do not have */

#ifndef OLD_DRIVER
ULONG(nvmlDeviceGetCurrentClocksEventReasons, clock_event_reasons)

int nvmlDeviceGetMarginTemperature(void *handle, int *info) {
    long long value;
    int result = reading(handle, G_margin_c, &value);
    if (!result) info[1] = (int)value;
    return result;
}

typedef struct {
    unsigned version;
    unsigned long long counts[11];
    unsigned threshold_exceeded;
} Sram;

int nvmlDeviceGetSramEccErrorStatus(void *handle, Sram *out) {
    long long value;
    int result = reading(handle, G_sram_threshold_exceeded, &value);
    if (!result) out->threshold_exceeded = (unsigned)value;
    return result;
}

typedef struct {
    unsigned version;
    unsigned char cluster[16];
    unsigned status;
    uint32_t clique;
    unsigned char state;
    uint32_t health;
} Fabric;

int nvmlDeviceGetGpuFabricInfoV(void *handle, Fabric *out) {
    long long state, status, health;
    int result = reading(handle, G_fabric_state, &state);
    if (!result) result = reading(handle, G_fabric_status, &status);
    if (!result) result = reading(handle, G_fabric_health, &health);
    if (!result) out->state = (unsigned char)state, out->status = (unsigned)status, out->health = (uint32_t)health;
    return result;
}
#endif

/* ------------------------------------------------------------------ events */

typedef struct {
    void *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
} EventData;

int nvmlDeviceGetSupportedEventTypes(void *handle, unsigned long long *out) {
    long long value;
    int result = reading(handle, G_error, &value);
#ifdef OLD_DRIVER
    if (!result) *out = 0x1f;
#else
    if (!result) *out = 0xff9f;
#endif
    return result;
}

int nvmlEventSetCreate(EventSet **out) {
    if (!initialized) return UNINITIALIZED;
    EventSet *set = calloc(1, sizeof *set);
    set->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    inotify_add_watch(set->inotify, folder, IN_MOVED_TO);
    pthread_mutex_lock(&lock);
    refresh(1);
    for (int each = 0; each < event_count; each++)  /* what was before is nobody's event */
        if (events[each].sequence > set->seen) set->seen = events[each].sequence;
    pthread_mutex_unlock(&lock);
    *out = set;
    return OK;
}

int nvmlDeviceRegisterEvents(void *handle, unsigned long long types, EventSet *set) {
    unsigned long long supported;
    int result = nvmlDeviceGetSupportedEventTypes(handle, &supported);
    if (result) return result;
    if (types & ~supported) return NOT_SUPPORTED;
    set->types[gpu_of(handle)] |= types;
    return OK;
}

static int next_event(EventSet *set, EventData *out) {
    int found = 0;
    pthread_mutex_lock(&lock);
    refresh(1);
    for (int each = 0; each < event_count && !found; each++) {
        const Event *event = &events[each];
        if (event->sequence <= set->seen) continue;
        set->seen = event->sequence;
        if (event->gpu < 0 || event->gpu >= MAX_GPUS || !(set->types[event->gpu] & event->type)) continue;
        *out = (EventData){&handles[event->gpu], event->type, event->data, UINT_MAX, UINT_MAX};
        found = 1;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static long long now_ms(void) {
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    return clock.tv_sec * 1000LL + clock.tv_nsec / 1000000;
}

int nvmlEventSetWait_v2(EventSet *set, EventData *out, unsigned timeout_ms) {
    long long until = now_ms() + timeout_ms;
    for (;;) {
        char drained[4096];
        while (read(set->inotify, drained, sizeof drained) > 0) {}
        while (driver_value(D_hang_events)) nap();
        if (next_event(set, out)) return OK;
        long long left = until - now_ms();
        if (left <= 0) return TIMEOUT;
        struct pollfd changed = {set->inotify, POLLIN, 0};
        poll(&changed, 1, (int)left);
    }
}

int nvmlEventSetFree(EventSet *set) {
    close(set->inotify);
    free(set);
    return OK;
}

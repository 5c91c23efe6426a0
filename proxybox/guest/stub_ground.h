/* The lowest layer of the stub, on which all others depend (README.md).
 *
 * A layer has a header, which includes that of the layer below it, and a source includes the header of its own layer.
 * So a layer cannot use a higher one.
 *
 * Rule: after the seal the stub makes system calls only through `kernel_call` and `clone_into`, makes only read, write
 * and the other calls that the filter allows, and calls no libc function that may make a system call.
 */
#ifndef PROXYBOX_STUB_GROUND_H
#define PROXYBOX_STUB_GROUND_H

#include <linux/filter.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

#include "wire.h"
#include "x86_64.h"

#define PUBLIC __attribute__((visibility("default")))
#define ERROR(number) (-(long)(number))

#define KERNEL(number, ...) KERNEL_(number, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define KERNEL_(number, a, b, c, d, e, f, ...) \
    kernel_call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* stub_config.c: the configuration from the controller, and the state of this process. outside_proc:
 * config.outside_proc bytes. filter: the instructions from the controller; install_filter returns 0 or -errno.
 * is_sealed: calls go to the controller. has_had_threads: whether a second thread was ever requested. */
extern struct config config;
extern char outside_proc[MAX_OUTSIDE_PROC];
extern struct sock_filter filter[MAX_FILTER];
long install_filter(long length, unsigned flags);
extern struct settings_and_rings {
    struct settings settings;
    struct clock_ring ring[MAX_CHANNELS];
} settings_and_rings;
#define settings settings_and_rings.settings
extern __thread int channel_index __attribute__((tls_model("initial-exec"))); /* of this thread */
struct clock_ring *own_ring(void);
extern bool can_map_libraries, is_sealed, has_had_threads;

/* stub_x86_64.c: the code that depends on x86-64 instructions. The guarded functions accept memory that may not be
 * mapped. Memory between the two pointers counts as unreadable. */
extern const char *unreadable_from, *unreadable_to;
bool guarded_copy(void *to, const void *from, size_t size);
long guarded_length(const char *text, size_t max); /* -1: unreadable; max: no NUL within max bytes */
bool guard_repair(ucontext_t *context);
int counter_instruction(const ucontext_t *context); /* its length; 0 where another instruction has faulted */
void counter_returns(ucontext_t *context, int length, uint64_t ticks);
void code_for_call(uint8_t *code, int number);
void code_for_jump(uint8_t *code, const void *to);
void add_nanoseconds(struct timespec *time, int64_t nanoseconds);
long futex_again(ucontext_t *context, siginfo_t *info, const struct timespec *until);
long clone_into(const uint64_t args[6], void *frame);

/* stub_guard.c: whether memory can be read. */
bool guarded_range(const void *from, size_t size);

/* stub_maps.c: calls `look` for each mapping of this process; true when `look` returned true for all of them. name: the
 * rest of the line in /proc/self/maps after the addresses. */
struct mapping {
    uint64_t from, to;
    bool is_plain_memory;
    const char *name;
};
bool each_mapping(bool (*look)(const struct mapping *map, void *context), void *context);

#endif

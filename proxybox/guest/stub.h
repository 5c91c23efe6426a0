/* The parts of the stub and what they give each other. No code here may make a system call except through
 * `kernel_call`, and none but read, write and the rows of the filter after the seal; no libc function that may. */
#ifndef PROXYBOX_STUB_H
#define PROXYBOX_STUB_H

#include <linux/filter.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "wire.h"
#include "x86_64.h"

#define ERROR(number) (-(long)(number))

#define KERNEL(number, ...) KERNEL_(number, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define KERNEL_(number, a, b, c, d, e, f, ...) \
    kernel_call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

extern struct config config;

/* stub_wire.c: one OS call, one round trip, on the calling thread's channel. */
extern __thread int channel_index;
void wire_learn(const struct call_roles *row);
long round_trip(long number, const uint64_t args[6]);
#define ASK(number, ...) ASK_(number, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define ASK_(number, a, b, c, d, e, f, ...)                                                                       \
    round_trip(number, (const uint64_t[6]){(uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), \
                                           (uint64_t)(f)})
void wire_farewell(const uint64_t args[6]);
bool wire_read_exactly(int fd, void *buffer, size_t size);

/* stub_x86_64.c: what knows instructions. Guarded: memory that may not be there. */
bool guarded_copy(void *to, const void *from, size_t size);
long guarded_length(const char *text, size_t max); /* -1: unreadable; max: no end within max bytes */
bool guard_repair(ucontext_t *context);
bool clock_instruction(ucontext_t *context);
void code_for_call(uint8_t *code, int number);
long clone_into(const uint64_t args[6], void *frame);

/* stub_guard.c */
bool guarded_range(const void *from, size_t size);

/* stub_trap.c: SIGSYS, and what is more than a round trip. */
void on_sigsys(int number, siginfo_t *info, void *context);

/* stub_memory.c: file mappings as filled anonymous memory. */
long emulate_mmap(const uint64_t args[6]);
long emulate_munmap(const uint64_t args[6]);
long emulate_mremap(const uint64_t args[6]);
long emulate_msync(const uint64_t args[6]);
void write_back_all(void);
/* A round trip on a file: what was stored into mappings of it is written before, and what it writes is seen there. */
long coherent_trip(long number, const uint64_t args[6]);

/* stub_signals.c: the guest's own signal handlers. */
void signals_install(void);
void signals_install_sealed(void);
long emulate_sigaction(const uint64_t args[6]);
long emulate_sigprocmask(const uint64_t args[6], ucontext_t *context);

/* stub_collect.c: the interpreter stands; `prepare` is due behind the next call. Whether PyPy has collected garbage, and
 * so closed what nobody holds. */
void collecting_begin(void);
extern bool collecting_is_due;
void collecting_prepare(void);
bool collecting_helps(void);

/* stub_locale.c: before the seal, and behind `hide_launch`, which needs the environment as the kernel has laid it. */
void load_locale(void);

/* stub_recursion.c: Python, run when the interpreter stands. */
extern const char make_recursion[];

/* stub_fork.c */
long emulate_fork(const uint64_t args[6]);

/* stub.c: the filter as the controller has given it; 0 or -errno. */
extern struct sock_filter filter[MAX_FILTER];
long install_filter(long length, unsigned flags);

/* stub_threads.c */
long emulate_clone(const uint64_t args[6], const ucontext_t *context);
long emulate_futex(const uint64_t args[6]);

/* stub_maps.c: this process's mappings; true when `look` was so of all. name: what follows the addresses. */
struct mapping {
    uint64_t from, to;
    bool is_plain_memory;
    const char *name;
};
bool each_mapping(bool (*look)(const struct mapping *map, const void *context), const void *context);

/* stub_clock.c: no clock but the box's. */
bool clocks_cover(void);

/* stub_hide.c: launch strings, host paths and ids leave the guest's memory. */
void hide_launch(char **environment);
void hide_paths(char *text, size_t size);

/* stub_layers.c: each is 0 or an errno, and the box goes on without what the kernel refuses. */
int enter_empty_root(void);
int enter_landlock(void);
void drop_capabilities(void);

#endif

/* The parts of the stub, and what each part offers to the others.
 *
 * Rule: after the seal the stub makes system calls only through `kernel_call` and `clone_into`, makes only read, write
 * and the other calls that the filter allows, and calls no libc function that may make a system call.
 */
#ifndef PROXYBOX_STUB_H
#define PROXYBOX_STUB_H

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

extern struct config config;

/* stub_wire.c: each OS call is one round trip on the calling thread's channel. */
extern __thread int channel_index;
void wire_learn(const struct call_roles *row);
long round_trip(long number, const uint64_t args[6]);
#define ASK(number, ...) ASK_(number, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define ASK_(number, a, b, c, d, e, f, ...)                                                                       \
    round_trip(number, (const uint64_t[6]){(uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), \
                                           (uint64_t)(f)})
uint64_t calls_begun(void); /* by all threads of this process */
uint64_t calls_answered(void);
uint64_t calls_of_thread(void);
void wire_farewell(const uint64_t args[6]);
void wire_begin(void); /* forgets what was begun on the first channel: for a copy of the process */
bool wire_read_exactly(int fd, void *buffer, size_t size);

/* stub_x86_64.c: the code that depends on x86-64 instructions. The guarded functions accept memory that may not be
 * mapped. */
bool guarded_copy(void *to, const void *from, size_t size);
long guarded_length(const char *text, size_t max); /* -1: unreadable; max: no NUL within max bytes */
bool guard_repair(ucontext_t *context);
bool clock_instruction(ucontext_t *context);
void code_for_call(uint8_t *code, int number);
void code_for_jump(uint8_t *code, const void *to);
void add_nanoseconds(struct timespec *time, int64_t nanoseconds);
long futex_again(ucontext_t *context, siginfo_t *info, const struct timespec *until);
long clone_into(const uint64_t args[6], void *frame);

/* stub_guard.c: whether memory can be read. */
bool guarded_range(const void *from, size_t size);

/* stub_trap.c: the handler of SIGSYS, and the calls that need more than one round trip. plain_call: a call that changes
 * nothing in this process but memory that it names; trip: how it asks the controller. */
void on_sigsys(int number, siginfo_t *info, void *context);
long plain_call(long number, const uint64_t args[6], long (*trip)(long, const uint64_t[6]));

/* stub_prefetched.c: a file that came whole with the answer to its open. prefetched_answers: whether a call needs no round trip
 * any more. prefetched_give_back: from here on the controller knows how far the file was read. */
bool prefetched_answers(long number, const uint64_t args[6], long *result);
void prefetched_give_back(void);

/* stub_statcache.c: answers that last. statcache_answers: whether a call was answered. */
bool statcache_answers(long number, const uint64_t args[6], long *result);
void statcache_forget(void);
bool may_change_a_status(long number, const uint64_t args[6]);

/* stub_environment.c: the value of a variable; NULL where there is none of that name. */
char *variable(char **environment, const char *name);

/* stub_nursery.c: nursery_prepare is called before the seal, and after the memory was limited; nursery_asked when getenv(3)
 * is asked for a variable that the environment has not. */
void nursery_prepare(char **environment);
void nursery_asked(const char *name);

/* stub_huge.c: before the seal. use_huge_pages: for a zygote. room_on_huge_pages: memory for reading and writing, which
 * begins on a huge page; 0 where there is none. */
void use_huge_pages(void);
uint64_t room_on_huge_pages(uint64_t size);

/* stub_direct.c: functions of libc that do without the trap, from `direct_begin` on. put_off: keeps a signal that comes
 * between `call_begins` and `call_ends`; false when it is to be delivered now. call_begins returns what call_ends takes,
 * which returns whether signals are to be delivered, by `deliver_put_off`. */
_Static_assert(OWN_CALLS_END <= __X32_SYSCALL_BIT, "the stub's own calls would be x32's");
enum { CALL_PUT_OFF = OWN_CALLS_END - 1 }; /* never leaves this process */
void direct_prepare(void); /* before the seal */
void direct_begin(void);
bool put_off(int signal, const siginfo_t *info, ucontext_t *context);
bool call_begins(void);
bool call_ends(bool outer);
void deliver_put_off(ucontext_t *context);
long ask_between(long number, const uint64_t args[6]); /* anywhere: -ENOSYS before the seal */
void calls_begin_anew(void); /* in a copy that was made in the middle of a call, and never ends it */

/* stub_room.c: whether there is room for an allocation that has failed with ENOMEM, so that it is to be made again. To be
 * called before the interpreter's `main`: room_prepare. */
void room_prepare(void);
bool room_for(uint64_t size, enum room kind);
void *libc_malloc(size_t size);
long give_back(uint64_t address, uint64_t size); /* pages, to the kernel */

/* stub_memory.c: file mappings are emulated by anonymous memory that the stub fills, but for files that never change, where
 * the kernel can ask the controller about a mapping of one (can_map_libraries). */
extern bool can_map_libraries;
long emulate_mmap(const uint64_t args[6]);
long emulate_munmap(const uint64_t args[6]);
long emulate_mremap(const uint64_t args[6]);
long emulate_msync(const uint64_t args[6]);
void write_back_all(void);
/* A round trip for a call on a file. What the guest has stored in mappings of the file is written back before it, and
 * what the call writes becomes visible in the mappings. */
long coherent_trip(long number, const uint64_t args[6]);

/* stub_signals.c: the guest's own signal handlers. */
void signals_install(void);
void signals_install_sealed(void);
void deliver(int signal, siginfo_t *info, void *context);
extern const uint64_t never_blocked;
long emulate_sigaction(const uint64_t args[6]);
long emulate_sigprocmask(const uint64_t args[6], ucontext_t *context);

/* stub_collect.c: makes PyPy collect garbage. collecting_begin: the interpreter has started, so `collecting_prepare` is
 * to be called after the next OS call. collecting_helps: whether PyPy has collected garbage, and so has closed files
 * that nothing refers to. */
void collecting_begin(void);
extern bool collecting_is_due;
void collecting_prepare(void);
bool collecting_helps(void);
bool python_is_free(void); /* whether PyPy can run source now, in this thread */
void collecting_closed(void); /* a file was closed */
bool collecting_has_closed(void); /* in the last collection of this thread */

/* stub_locale.c: called before the seal, and after `hide_launch`, which needs the environment as the kernel laid it
 * out. */
void load_locale(void);

/* stub_recursion.c: Python source that runs when the interpreter has started. */
extern const char make_recursion[];

/* stub_fork.c: a copy of the process. */
long emulate_fork(const uint64_t args[6]);
void be_adopted(void); /* the first call of a copy */

/* stub_inspect.c: a copy of this process for a look at the program. */
void inspect(void);

/* stub.c: the filter's instructions from the controller. install_filter returns 0 or -errno. */
extern struct sock_filter filter[MAX_FILTER];
long install_filter(long length, unsigned flags);

/* stub_end.c: end_prepare is called before the interpreter's `main`. */
void end_prepare(void);

/* stub_yield.c: before the interpreter's `main`. */
void yield_prepare(void);

/* stub_threads.c: threads, and futex waits that the filter does not allow. has_had_threads: whether a second one was
 * ever asked for. */
extern bool has_had_threads;
long emulate_clone(const uint64_t args[6], const ucontext_t *context);
long emulate_futex(const uint64_t args[6], ucontext_t *context, siginfo_t *info);

/* stub_maps.c: calls `look` for each mapping of this process; true when `look` returned true for all of them. name: the
 * rest of the line in /proc/self/maps after the addresses. */
struct mapping {
    uint64_t from, to;
    bool is_plain_memory;
    const char *name;
};
bool each_mapping(bool (*look)(const struct mapping *map, void *context), void *context);

/* stub_clock.c: leaves the guest no clock but those that the box may have. False when that fails. */
extern struct told_and_rings {
    struct told told;
    struct clock_ring ring[MAX_CHANNELS];
} told_and_rings;
#define told told_and_rings.told
struct clock_ring *own_ring(void);
void clocks_flush(void);
extern const char *clock_pages, *moved_vdso;
bool clocks_cover(void);
long counter_covers(void);
void counter_reads(struct timespec *time);
long emulate_clock_gettime(const uint64_t args[6], const void *caller);

/* stub_hide.c: removes launch strings, host paths and host ids from the guest's memory. */
void hide_launch(char **environment);
void hide_paths(char *text, size_t size);

/* stub_layers.c: enter_* return 0 or an errno; the box goes on without a layer that the kernel refuses. */
int enter_empty_root(void);
int enter_landlock(void);
void drop_capabilities(void);

#endif

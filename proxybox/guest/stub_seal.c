/* The seal: the one filter that stands between hostile machine code and the kernel.
 *
 * What it promises: after `seal_filter` returns 0, no code in this process, whatever it does to this stub, reaches
 * the kernel except by the rows below; every other call number traps to the SIGSYS handler (which may be hostile by
 * then and gains nothing by it), and another ABI than x86-64 ends the process. Rows may only touch the guest's own
 * memory, its own scheduling and its own pipe ends.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "stub.h"

enum compare { EQUAL, DIFFERENT, WITHIN };
enum half { LOW, HIGH };

/* A condition on one half of a register: (half & mask) compares to value; WITHIN: value <= half < value + count. */
struct condition {
    uint8_t arg, half, compare, used;
    uint32_t mask, value, count;
};

struct rule {
    uint32_t number;
    uint32_t only_when; /* config.flags that the row needs */
    struct condition where[4];
};

#define IS(a, h, v) {.used = 1, .arg = (a), .half = (h), .compare = EQUAL, .mask = ~0u, .value = (v)}
#define MASKED(a, h, m, v) {.used = 1, .arg = (a), .half = (h), .compare = EQUAL, .mask = (m), .value = (v)}
#define IS_NOT(a, h, v) {.used = 1, .arg = (a), .half = (h), .compare = DIFFERENT, .mask = ~0u, .value = (v)}
#define ONE_OF(a, h, v, n) {.used = 1, .arg = (a), .half = (h), .compare = WITHIN, .value = (v), .count = (n)}

#define MAP_NATIVE (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_STACK)
#define WAIT_PRIVATE (FUTEX_WAIT | FUTEX_PRIVATE_FLAG)
#define WAIT_BITSET_PRIVATE (FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG)
#define WAKE_PRIVATE (FUTEX_WAKE | FUTEX_PRIVATE_FLAG)
#define ANY_CLOCK (~(uint32_t)FUTEX_CLOCK_REALTIME)
#define CHANNEL_FDS 0 /* filled in: two descriptors for each channel */

static const struct rule rules[] = {
    /* The box's own pipe ends; ROUTE tells them from the guest's descriptors of the same numbers, which trap. */
    {SYS_read, 0, {ONE_OF(0, LOW, FIRST_CHANNEL_FD, CHANNEL_FDS), IS(3, LOW, ROUTE)}},
    {SYS_write, 0, {ONE_OF(0, LOW, FIRST_CHANNEL_FD, CHANNEL_FDS), IS(3, LOW, ROUTE)}},
    /* Private anonymous memory; the JIT needs PROT_EXEC. */
    {SYS_mmap, 0, {MASKED(3, LOW, ~(uint32_t)MAP_NATIVE, 0), MASKED(3, LOW, MAP_PRIVATE | MAP_ANONYMOUS, MAP_PRIVATE | MAP_ANONYMOUS), IS(3, HIGH, 0)}},
    /* Where shared mappings of virtual files live, munmap writes back first. */
    {SYS_munmap, 0, {IS_NOT(0, HIGH, SHARED_HIGH)}},
    {SYS_munmap, 0, {IS(2, LOW, ROUTE)}},
    {SYS_mprotect, 0, {{0}}},
    {SYS_brk, 0, {{0}}},
    {SYS_madvise, 0, {IS(2, LOW, MADV_DONTNEED)}},
    {SYS_madvise, 0, {IS(2, LOW, MADV_FREE)}},
    /* Private futexes. A timed wait is a clock: native only where the guest may know the time. */
    {SYS_futex, 0, {IS(1, LOW, WAKE_PRIVATE)}},
    {SYS_futex, 0, {IS(1, LOW, WAIT_PRIVATE), IS(3, LOW, 0), IS(3, HIGH, 0)}},
    {SYS_futex, 0, {MASKED(1, LOW, ANY_CLOCK, WAIT_BITSET_PRIVATE), IS(3, LOW, 0), IS(3, HIGH, 0)}},
    {SYS_futex, CONFIG_REAL_TIME, {IS(1, LOW, WAIT_PRIVATE)}},
    {SYS_futex, CONFIG_REAL_TIME, {MASKED(1, LOW, ANY_CLOCK, WAIT_BITSET_PRIVATE)}},
    /* How the kernel goes on with a timed wait when another thread has taken the signal that woke this one; it only
     * repeats a call that has passed here already. */
    {SYS_restart_syscall, CONFIG_REAL_TIME, {{0}}},
    /* Threads: told to the controller, then counted by it through the listener (launcher.c). */
    {SYS_clone, CONFIG_THREADS, {IS(0, LOW, THREAD_FLAGS), IS(0, HIGH, 0), IS(5, LOW, ROUTE)}},
    {SYS_exit, 0, {IS(1, LOW, ROUTE)}},
    {SYS_exit_group, 0, {IS(1, LOW, ROUTE)}},
    {SYS_rt_sigreturn, 0, {{0}}},
    {SYS_sched_yield, 0, {{0}}},
};

enum { RULES = sizeof rules / sizeof *rules, LONGEST = 2 + 4 * 5 + 1 };
static struct sock_filter program[8 + RULES * LONGEST];
static unsigned length;

static void emit(uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false)
{
    program[length++] = (struct sock_filter){code, if_true, if_false, k};
}

static unsigned instructions(const struct condition *where)
{
    return !where->used ? 0 : where->compare == WITHIN ? 3 : where->mask != ~0u ? 3 : 2;
}

/* One row: the call number, then each condition; whatever fails goes on behind the row. */
static void emit_rule(const struct rule *rule)
{
    unsigned rest = 1;
    for (unsigned i = 0; i < 4; i++)
        rest += instructions(&rule->where[i]);
    emit(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    emit(BPF_JMP | BPF_JEQ | BPF_K, rule->number, 0, (uint8_t)rest);
    for (unsigned i = 0; i < 4 && rule->where[i].used; i++) {
        const struct condition *where = &rule->where[i];
        uint32_t count = where->compare == WITHIN && where->count == CHANNEL_FDS ? 2 * config.channels : where->count;
        rest -= instructions(where);
        uint32_t half = (uint32_t)offsetof(struct seccomp_data, args) + 8u * where->arg + 4u * where->half;
        emit(BPF_LD | BPF_W | BPF_ABS, half, 0, 0);
        if (where->compare == WITHIN)
            emit(BPF_ALU | BPF_SUB | BPF_K, where->value, 0, 0), emit(BPF_JMP | BPF_JGE | BPF_K, count, (uint8_t)rest, 0);
        else {
            if (where->mask != ~0u)
                emit(BPF_ALU | BPF_AND | BPF_K, where->mask, 0, 0);
            bool equal = where->compare == EQUAL;
            emit(BPF_JMP | BPF_JEQ | BPF_K, where->value, equal ? 0 : (uint8_t)rest, equal ? (uint8_t)rest : 0);
        }
    }
    emit(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

long seal_filter(void)
{
    length = 0;
    emit(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
    emit(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    emit(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    for (unsigned i = 0; i < RULES; i++)
        if ((config.flags & rules[i].only_when) == rules[i].only_when)
            emit_rule(&rules[i]);
    emit(BPF_RET | BPF_K, SECCOMP_RET_TRAP, 0, 0);
    struct sock_fprog filter = {.len = (unsigned short)length, .filter = program};
    return KERNEL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}

/* fork: makes a copy of this process, which becomes a box of its own.
 *
 * Two kinds of guest fork. A zygote has run nothing untrusted yet. It stays in `emulate_fork` for good under a first
 * filter, and each of its children gets its own, final filter. A session that may be copied already has its final
 * filter.
 *
 * The child is a child of the controller (CLONE_PARENT). The controller adopts it at its first call, a prctl that ties
 * the child's life to the controller's. The kernel holds that prctl for the seccomp listener. Before the controller
 * allows it, it replaces the parent's pipe ends in the child by those of a new channel.
 */
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "stub_threads.h"

static _Noreturn void fail(void)
{
    for (;;)
        KERNEL(SYS_exit_group, 125, ROUTE);
}

static void limit(int resource, uint64_t soft, uint64_t hard)
{
    struct rlimit both = {soft, hard};
    if (soft && KERNEL(SYS_setrlimit, resource, &both) < 0)
        fail();
}

/* The steps of the launcher and the stub at a start whose results a child does not inherit over a fork. */
static void seal(long length, const struct newborn *birth)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    if (birth->cpu >= 0) {
        CPU_SET((size_t)birth->cpu, &one);
        KERNEL(SYS_sched_setaffinity, 0, sizeof one, &one); /* for speed only */
    }
    if (KERNEL(SYS_setsid) < 0) /* where the kernel shares CPUs between sessions, this box gets its own share */
        fail();
    limit(RLIMIT_CPU, birth->cpu_seconds, birth->cpu_seconds);
    limit(RLIMIT_AS, birth->space, birth->most_space);
    if (length > MAX_FILTER || install_filter(length, 0) < 0 || KERNEL(CALL_SEALED) != SEALED_ANSWER)
        fail();
}

void be_adopted(void)
{
    if (KERNEL(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, ROUTE) < 0)
        fail();
}

static void be_born(const uint64_t args[6], long pid)
{
    struct newborn birth = {0, 0, 0, -1};
    int32_t id = (int32_t)pid;
    be_adopted();
    long length = ASK(CALL_BORN, filter, MAX_FILTER, &birth);
    if (length < 0)
        fail();
    config.pid = (uint32_t)pid;
    guarded_copy((void *)args[3], &id, sizeof id); /* CLONE_CHILD_SETTID: glibc's copy of the thread id */
    if (length > 0)
        seal(length, &birth);
}

long emulate_fork(const uint64_t args[6])
{
    uint64_t asked[6] = {args[0], args[1], args[2], args[3], args[4], 0};
    for (;;) {
        long granted = round_trip(SYS_clone, asked);
        if (granted < 0)
            return granted;
        long child = KERNEL(SYS_clone, FORK_FLAGS, 0, 0, 0, 0, ROUTE);
        if (child == 0) {
            be_born(args, granted >> 16);
            return 0;
        }
        if (!(granted & FORK_AGAIN))
            return child < 0 ? child : granted >> 16;
        asked[5] = (uint64_t)child;
    }
}

/* SIGSYS: a call that the filter did not let through. Nearly all are one round trip; the few that must also change
 * something in this process (memory, threads, signal masks) are named here.
 *
 * Runs with every signal blocked but SIGSYS and SIGSEGV, on the stack of the calling thread.
 */
#include <errno.h>

#include "stub.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code: from a filter, not from kill */
#endif

static long answer(long number, const uint64_t args[6], ucontext_t *context)
{
    switch (number) {
    case SYS_mmap:
        return emulate_mmap(args);
    case SYS_munmap:
        return emulate_munmap(args);
    case SYS_mremap:
        return emulate_mremap(args);
    case SYS_msync:
        return emulate_msync(args);
    case SYS_clone:
        return args[0] == FORK_ASKED ? emulate_fork(args) : emulate_clone(args, context);
    case SYS_futex:
        return emulate_futex(args);
    case SYS_rt_sigaction:
        return emulate_sigaction(args);
    case SYS_rt_sigprocmask:
        return emulate_sigprocmask(args, context);
    case SYS_exit:
        wire_farewell(args);
        return KERNEL(SYS_exit, args[0], ROUTE);
    case SYS_exit_group:
        write_back_all();
        round_trip(number, args);
        return KERNEL(SYS_exit_group, args[0], ROUTE);
    default:
        break;
    }
    long result = coherent_trip(number, args);
    if (number == SYS_geteuid)
        collecting_begin();
    if (collecting_is_due)
        collecting_prepare();
    if ((result == ERROR(EMFILE) || result == ERROR(ENFILE)) && collecting_helps())
        result = round_trip(number, args);
    return result;
}

void on_sigsys(int number, siginfo_t *info, void *opaque)
{
    ucontext_t *context = opaque;
    uint64_t args[6];
    (void)number;
    if (info->si_code != SYS_SECCOMP)
        return;
    context_arguments(context, args);
    context_returns(context, answer(info->si_syscall, args, context));
}

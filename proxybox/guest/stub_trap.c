/* SIGSYS: a call that the filter did not allow. Nearly all such calls are one round trip; the few that must also change
 * something in this process (memory, threads, signal masks) are named in `answer`.
 *
 * The handler runs with every signal blocked but SIGSYS, SIGSEGV and SIGBUS, on the stack of the calling thread.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "stub_trap.h"

enum { MAX_RANDOM = (1 << 25) - 1, MAX_READ = 0x7ffff000 };

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code of a SIGSYS from a filter, not from kill */
#endif

/* Requests the bytes in pieces if one reply cannot carry them, up to the most that Linux returns in one call: PyPy's
 * os.urandom takes the result of the first call as complete. */
static long random_bytes(const uint64_t args[6])
{
    uint64_t wanted = args[1] < MAX_RANDOM ? args[1] : MAX_RANDOM, done = 0;
    do {
        long got = ASK(SYS_getrandom, args[0] + done, wanted - done, args[2]);
        if (got <= 0)
            return done ? (long)done : got;
        done += (uint64_t)got;
    } while (done < wanted);
    return (long)done;
}

/* The same for read, where it does not wait for other processes: on files, and on the memory devices (major 1), such as
 * /dev/zero. */
static long read_on(const uint64_t args[6], uint64_t done, long (*trip)(long, const uint64_t[6]))
{
    struct stat status;
    if (trip(SYS_fstat, (const uint64_t[6]){args[0], (uint64_t)&status}) != 0)
        return (long)done;
    bool is_device = S_ISCHR(status.st_mode) && major(status.st_rdev) == 1;
    uint64_t most = is_device ? MAX_RANDOM : MAX_READ;
    while ((is_device || S_ISREG(status.st_mode)) && done < args[2] && done < most && done % MAX_PAYLOAD == 0) {
        uint64_t left = (args[2] < most ? args[2] : most) - done;
        long got = trip(SYS_read, (const uint64_t[6]){args[0], args[1] + done, left});
        if (got <= 0)
            break;
        done += (uint64_t)got;
    }
    return (long)done;
}

static bool lacks_descriptors(long number, long result)
{
    return result == ERROR(EMFILE) || result == ERROR(ENFILE) ||
           (number == SYS_getdents64 && result == ERROR(ENOMEM)); /* open folders */
}

long plain_call(long number, const uint64_t args[6], long (*trip)(long, const uint64_t[6]))
{
    long result = trip(number, args);
    if (number == SYS_read && result == MAX_PAYLOAD && args[2] > MAX_PAYLOAD)
        result = read_on(args, MAX_PAYLOAD, trip);
    if (number == SYS_geteuid)
        collecting_begin();
    if (collecting_is_due)
        collecting_prepare();
    if (number == SYS_close)
        collecting_closed();
    bool again = true; /* another thread may get the closed descriptors before this one makes its call */
    for (int tries = 0; tries < 5 && again && lacks_descriptors(number, result) && collecting_helps(); tries++) {
        again = has_had_threads && collecting_has_closed();
        result = trip(number, args);
    }
    return result;
}

/* pselect(2) has a pointer to a pointer to its signal mask: the controller gets the first. */
static long masked_select(const uint64_t args[6])
{
    struct {
        uint64_t mask, size;
    } masked = {0, 0};
    if (args[5] && !guarded_copy(&masked, (const void *)args[5], sizeof masked))
        return ERROR(EFAULT);
    if (masked.mask && masked.size != 8)
        return ERROR(EINVAL);
    const uint64_t direct[6] = {args[0], args[1], args[2], args[3], args[4], masked.mask};
    return plain_call(SYS_pselect6, direct, coherent_trip);
}

/* sendmsg(2) and recvmsg(2) have one pointer to all arguments. The controller gets the pieces, their number, the flags,
 * whether there is an address or ancillary data, and the address of the structure. */
static long message(long number, const uint64_t args[6])
{
    struct msghdr header;
    if (!guarded_copy(&header, (const void *)args[1], sizeof header))
        return ERROR(EFAULT);
    uint64_t more = (header.msg_name && header.msg_namelen) || (header.msg_control && header.msg_controllen);
    const uint64_t direct[6] = {args[0], (uint64_t)header.msg_iov, header.msg_iovlen, args[2], more, args[1]};
    return plain_call(number, direct, coherent_trip);
}

static long answer(siginfo_t *info, const uint64_t args[6], ucontext_t *context)
{
    long number = info->si_syscall;
    switch (number) {
    case CALL_PUT_OFF: /* ends a direct call, and the signals are delivered at the end of this handler */
        return ERROR(ENOSYS);
    case SYS_clock_gettime:
        return emulate_clock_gettime(args, info->si_call_addr);
    case SYS_mmap:
        return emulate_mmap(args);
    case SYS_munmap:
        return emulate_munmap(args);
    case SYS_mremap:
        return emulate_mremap(args);
    case SYS_madvise:
        return (int)args[2] == MADV_FREE ? give_back(args[0], args[1]) : plain_call(number, args, coherent_trip);
    case SYS_msync:
        return emulate_msync(args);
    case SYS_clone:
        return args[0] == FORK_ASKED ? emulate_fork(args) : emulate_clone(args, context);
    case SYS_getrandom:
        return random_bytes(args);
    case SYS_pselect6:
        return masked_select(args);
    case SYS_sendmsg:
    case SYS_recvmsg:
        return message(number, args);
    case SYS_futex:
        return emulate_futex(args, context, info);
    case SYS_rt_sigaction:
        return emulate_sigaction(args);
    case SYS_rt_sigprocmask:
        return emulate_sigprocmask(args, context);
    case SYS_exit:
        if (settings.readings && own_ring()->count)
            ASK(CALL_CLOCKS);
        wire_farewell(args);
        return KERNEL(SYS_exit, args[0], ROUTE);
    case SYS_exit_group:
        write_back_all();
        round_trip(number, args);
        return KERNEL(SYS_exit_group, args[0], ROUTE);
    default:
        return plain_call(number, args, coherent_trip);
    }
}

void on_sigsys(int number, siginfo_t *info, void *opaque)
{
    ucontext_t *context = opaque;
    uint64_t args[6];
    (void)number;
    if (info->si_code != SYS_SECCOMP)
        return;
    context_arguments(context, args);
    bool outer = call_begins();
    if (info->si_syscall != CALL_PUT_OFF) {
        prefetched_give_back();
        if (may_change_a_status(info->si_syscall, args))
            statcache_forget();
    }
    context_returns(context, answer(info, args, context));
    if (call_ends(outer))
        deliver_put_off(context);
}

/* Threads, each with one channel that the controller gives it; and the futex waits that the filter does not allow. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <string.h>
#include <sched.h>

#include "stub_threads.h"

/* Data that the new thread needs before its first instruction, stored below its stack pointer. */
struct birth {
    uint64_t tid_address, tid;
    ucontext_t context;
};

/* Makes the thread that was granted. Returns less than 0 where there is none. */
static long make_thread(const uint64_t args[6], const ucontext_t *context, long granted)
{
    if (args[0] != THREAD_FLAGS)
        return ERROR(EPERM);
    struct birth birth = {.tid_address = args[2], .tid = (uint64_t)granted >> 16};
    memcpy(&birth.context, context, KERNEL_UCONTEXT);
    context_of_child(&birth.context, args[1]);
    birth.context.uc_stack = (stack_t){.ss_flags = SS_DISABLE};
    struct birth *place = (struct birth *)((args[1] - RED_ZONE - sizeof birth) & ~15ul);
    int child_channel = granted & 0xffff;
    uint64_t channel = args[4] + (uint64_t)((char *)&channel_index - thread_pointer()); /* where the child has its own */
    if (!guarded_copy(place, &birth, sizeof birth) ||
        !guarded_copy((void *)channel, &child_channel, sizeof child_channel))
        return ERROR(EFAULT);
    return clone_into(args, &place->context);
}

/* The controller answers `thread id << 16 | channel`, and learns whether the thread was made after all. */
long emulate_clone(const uint64_t args[6], const ucontext_t *context)
{
    has_had_threads = true;
    long granted = round_trip(SYS_clone, args);
    if (granted < 0)
        return granted;
    long result = make_thread(args, context, granted);
    if (result >= 0)
        return granted >> 16;
    ASK(CALL_NO_THREAD, granted >> 16, result);
    return result;
}

/* A wait until a time of CLOCK_MONOTONIC in a box with real time: the kernel can do it, with the host's time. */
static long wait_until(const uint64_t args[6], ucontext_t *context, siginfo_t *info)
{
    struct timespec until;
    if (!guarded_copy(&until, (const void *)args[3], sizeof until))
        return ERROR(EFAULT);
    if (until.tv_sec < 0 || until.tv_nsec < 0 || until.tv_nsec >= 1000000000)
        return ERROR(EINVAL);
    if (until.tv_sec > LONG_MAX / 2)
        until.tv_sec = LONG_MAX / 2; /* the offset must not overflow it */
    add_nanoseconds(&until, -settings.clock_offset);
    if (until.tv_sec < 0)
        until = (struct timespec){0, 0}; /* long past, and no valid time for the kernel */
    return futex_again(context, info, &until);
}

/* Where one thread runs at a time, the word does not change between this read and the controller's answer. */
static long futex_in_turn(int operation, const uint64_t args[6])
{
    bool waits = operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET;
    uint32_t word;
    if (waits && !guarded_copy(&word, (const void *)args[0], sizeof word))
        return ERROR(EFAULT);
    if (waits && word != (uint32_t)args[2])
        return ERROR(EAGAIN);
    return ASK(SYS_futex, args[0], args[1], args[2], waits ? args[3] : 0, 0, args[5]);
}

/* Other timed waits, and shared ones. The controller answers after a slice of the box's time. Between slices the stub
 * itself reads the futex word, because only this process can wake a private futex. */
long emulate_futex(const uint64_t args[6], ucontext_t *context, siginfo_t *info)
{
    int operation = (int)args[1] & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    if (config.flags & CONFIG_SERIAL)
        return futex_in_turn(operation, args);
    if ((config.flags & CONFIG_REAL_TIME) && args[3] && (int)args[1] == (FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG))
        return wait_until(args, context, info);
    if (operation == FUTEX_WAKE)
        return 0; /* a shared futex: each waiter reads the word again by itself */
    if (operation != FUTEX_WAIT && operation != FUTEX_WAIT_BITSET)
        return round_trip(SYS_futex, args);
    for (bool first = true;; first = false) {
        uint32_t word;
        if (!guarded_copy(&word, (const void *)args[0], sizeof word))
            return ERROR(EFAULT);
        if (word != (uint32_t)args[2])
            return first ? ERROR(EAGAIN) : 0;
        /* The fifth register, which these operations do not use, is 2 for a new wait and 1 for the next slice of
         * one. */
        uint64_t asked[6] = {args[0], args[1], args[2], args[3], first ? 2 : 1, args[5]};
        long result = round_trip(SYS_futex, asked);
        if (result)
            return result;
    }
}

/* Reading and writing memory that may not be there: a fault inside one of these loops is a result, not a crash.
 *
 * Each loop is one instruction range with a repair address; the SIGSEGV handler asks `guard_repair` first.
 */
#include "stub.h"

extern const char guard_copy_start[], guard_copy_end[], guard_copy_fault[];
extern const char guard_scan_start[], guard_scan_end[], guard_scan_fault[];

__attribute__((noinline)) bool guarded_copy(void *to, const void *from, size_t size)
{
    bool fault;
    __asm__ volatile("guard_copy_start: rep movsb\n"
                     "guard_copy_end: xor %%eax, %%eax\n"
                     "jmp 1f\n"
                     "guard_copy_fault: mov $1, %%eax\n"
                     "1:"
                     : "+D"(to), "+S"(from), "+c"(size), "=a"(fault)
                     :
                     : "memory", "cc");
    return !fault;
}

__attribute__((noinline)) long guarded_length(const char *text, size_t max)
{
    long result;
    __asm__ volatile("xor %%eax, %%eax\n"
                     "guard_scan_start: cmp %2, %%rax\n"
                     "jae 1f\n"
                     "cmpb $0, (%1,%%rax)\n"
                     "guard_scan_end: je 1f\n"
                     "inc %%rax\n"
                     "jmp guard_scan_start\n"
                     "guard_scan_fault: mov $-1, %%rax\n"
                     "1:"
                     : "=&a"(result)
                     : "r"(text), "r"(max)
                     : "memory", "cc");
    return result;
}

bool guarded_range(const void *from, size_t size)
{
    const char *at = from;
    char probe;
    if (!size)
        return true;
    if ((uintptr_t)at + size < (uintptr_t)at)
        return false;
    for (size_t offset = 0; offset < size; offset += 4096)
        if (!guarded_copy(&probe, at + offset, 1))
            return false;
    return guarded_copy(&probe, at + size - 1, 1);
}

bool guard_repair(ucontext_t *context)
{
    greg_t *rip = &context->uc_mcontext.gregs[REG_RIP];
    const char *at = (const char *)*rip;
    if (at >= guard_copy_start && at < guard_copy_end)
        *rip = (greg_t)guard_copy_fault;
    else if (at >= guard_scan_start && at < guard_scan_end)
        *rip = (greg_t)guard_scan_fault;
    else
        return false;
    return true;
}

/* What is particular to x86-64, and small enough to be inline; the rest is in stub_x86_64.c. A port to another
 * architecture writes these two files, the head of controller/seal/filters.py and the numbers in controller/oscalls anew. */
#ifndef PROXYBOX_X86_64_H
#define PROXYBOX_X86_64_H

#include <stdint.h>
#include <ucontext.h>

/* syscall(2), "Architecture calling conventions". */
static inline long kernel_call(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* A trapped call's registers, and what it shall return. */
static inline void context_arguments(const ucontext_t *context, uint64_t args[6])
{
    static const uint8_t registers[6] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    for (int i = 0; i < 6; i++)
        args[i] = (uint64_t)context->uc_mcontext.gregs[registers[i]];
}

static inline void context_returns(ucontext_t *context, long result) { context->uc_mcontext.gregs[REG_RAX] = result; }

/* What a new thread wakes up with: its own stack, and 0 from clone. */
static inline void context_of_child(ucontext_t *context, uint64_t stack)
{
    context->uc_mcontext.gregs[REG_RSP] = (greg_t)stack;
    context->uc_mcontext.gregs[REG_RAX] = 0;
    context->uc_mcontext.fpregs = NULL;
}

/* To the instruction that has faulted: a breakpoint (int3, trap 3) is reported when it lies behind, one byte long. */
static inline void context_repeats(ucontext_t *context)
{
    if (context->uc_mcontext.gregs[REG_TRAPNO] == 3)
        context->uc_mcontext.gregs[REG_RIP]--;
}

static inline char *thread_pointer(void)
{
    char *pointer;
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
    return pointer;
}

/* The kernel's view of ucontext (glibc's is longer), as rt_sigreturn reads it from the stack. */
enum { KERNEL_UCONTEXT = 304, RED_ZONE = 128 };

/* glibc's struct pthread, which the thread pointer points to: where its thread id may stand. */
enum { DESCRIPTOR_IDS = 704, DESCRIPTOR_SIZE = 2304 };

#endif

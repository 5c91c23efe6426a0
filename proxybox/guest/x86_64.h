/* Code for x86-64 that is small enough to be inline; the rest is in stub_x86_64.c. A port to another architecture
 * rewrites these two files, the beginning of controller/seal/filters.py and the numbers in controller/oscalls. */
#ifndef PROXYBOX_X86_64_H
#define PROXYBOX_X86_64_H

#include <stdint.h>
#include <ucontext.h>

/* syscall(2), "Architecture calling conventions". After the call, the registers in which ROUTE may be are cleared: libc
 * does not set them for a call with fewer arguments, and the filter would allow that call. */
static inline long kernel_call(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall\n"
                     "xor %%edx, %%edx\n"
                     "xor %%r10d, %%r10d\n"
                     "xor %%r8d, %%r8d\n"
                     "xor %%r9d, %%r9d"
                     : "=a"(result), "+d"(c), "+r"(r10), "+r"(r8), "+r"(r9)
                     : "a"(number), "D"(a), "S"(b)
                     : "rcx", "r11", "cc", "memory");
    return result;
}

/* The argument registers of a trapped call, and the result of the call. */
static inline void context_arguments(const ucontext_t *context, uint64_t args[6])
{
    static const uint8_t registers[6] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    for (int i = 0; i < 6; i++)
        args[i] = (uint64_t)context->uc_mcontext.gregs[registers[i]];
}

static inline void context_returns(ucontext_t *context, long result) { context->uc_mcontext.gregs[REG_RAX] = result; }

/* A new thread starts with its own stack, and with 0 as the result of clone. */
static inline void context_of_child(ucontext_t *context, uint64_t stack)
{
    context->uc_mcontext.gregs[REG_RSP] = (greg_t)stack;
    context->uc_mcontext.gregs[REG_RAX] = 0;
    context->uc_mcontext.fpregs = NULL;
}

/* Moves back to the instruction that faulted. Only a breakpoint (int3, one byte, trap 3) needs it: the kernel reports
 * it with the instruction pointer after the instruction. */
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

/* The size of the kernel's ucontext, as rt_sigreturn reads it from the stack (glibc's is longer). */
enum { KERNEL_UCONTEXT = 304, RED_ZONE = 128 };

/* glibc's struct pthread, to which the thread pointer points: the range of offsets at which its thread id may be. */
enum { DESCRIPTOR_IDS = 704, DESCRIPTOR_SIZE = 2304 };

#endif

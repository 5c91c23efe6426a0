/* The code that depends on x86-64 instructions. */
#include <string.h>

#include "stub_ground.h"

/* Reading and writing memory that may not be mapped: a fault inside one of these loops is a result, not a crash. Each
 * loop is one range of instructions with a repair address; the handler of SIGSEGV and SIGBUS calls `guard_repair` first.
 * SIGBUS is a page of a file after the file's end.
 *
 * The vDSO's data pages count as unreadable: some of them may not exist, and they show the host's time. */
extern const char guard_copy_start[], guard_copy_end[], guard_copy_fault[];
extern const char guard_scan_start[], guard_scan_end[], guard_scan_fault[];
const char *unreadable_from, *unreadable_to;

static bool is_withheld(const char *from, size_t size)
{
    return from < unreadable_to && (size > (size_t)(unreadable_from - from) || from >= unreadable_from);
}

__attribute__((noinline)) bool guarded_copy(void *to, const void *from, size_t size)
{
    bool fault;
    if (is_withheld(from, size))
        return false;
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
    if (is_withheld(text, 1))
        return -1;
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

int counter_instruction(const ucontext_t *context)
{
    static const uint8_t rdtsc[] = {0x0f, 0x31}, rdtscp[] = {0x0f, 0x01, 0xf9};
    uint8_t code[3] = {0};
    if (!guarded_copy(code, (const void *)context->uc_mcontext.gregs[REG_RIP], sizeof code))
        return 0;
    return !memcmp(code, rdtscp, sizeof rdtscp) ? sizeof rdtscp : !memcmp(code, rdtsc, sizeof rdtsc) ? sizeof rdtsc : 0;
}

void counter_returns(ucontext_t *context, int length, uint64_t ticks)
{
    greg_t *gregs = context->uc_mcontext.gregs;
    gregs[REG_RAX] = (greg_t)(ticks & 0xffffffff);
    gregs[REG_RDX] = (greg_t)(ticks >> 32);
    if (length == 3)
        gregs[REG_RCX] = 0; /* rdtscp's number of the processor */
    gregs[REG_RIP] += length;
}

/* `mov $number, %eax; syscall; ret` */
void code_for_call(uint8_t *code, int number)
{
    const uint8_t text[] = {0xb8, (uint8_t)number, (uint8_t)(number >> 8), 0, 0, 0x0f, 0x05, 0xc3};
    memcpy(code, text, sizeof text);
}

/* `movabs $to, %rax; jmp *%rax` */
void code_for_jump(uint8_t *code, const void *to)
{
    const uint8_t start[] = {0x48, 0xb8}, end[] = {0xff, 0xe0};
    memcpy(code, start, sizeof start);
    memcpy(code + sizeof start, &to, sizeof to);
    memcpy(code + sizeof start + sizeof to, end, sizeof end);
}

void add_nanoseconds(struct timespec *time, int64_t nanoseconds)
{
    enum { SECOND = 1000000000 };
    time->tv_sec += nanoseconds / SECOND;
    time->tv_nsec += nanoseconds % SECOND;
    if (time->tv_nsec < 0) {
        time->tv_nsec += SECOND;
        time->tv_sec--;
    } else if (time->tv_nsec >= SECOND) {
        time->tv_nsec -= SECOND;
        time->tv_sec++;
    }
}

/* The data for `futex_once_more` at the stack pointer: they replace the trap's siginfo_t, which rt_sigreturn(2) does
 * not read. Above it, the signal's frame has registers that rt_sigreturn(2) restores. */
struct once_more {
    struct timespec until;
    greg_t r8, r10, rsp, rip;
};
__asm__(".text\n"
        "futex_once_more: syscall\n"
        "mov 16(%rsp), %r8\n"
        "mov 24(%rsp), %r10\n"
        "mov 40(%rsp), %rcx\n" /* a system call may change it, so the program stores nothing in it */
        "mov 32(%rsp), %rsp\n"
        "jmp *%rcx\n");
extern const char futex_once_more[];

/* The trapped futex call is made again, with another time and with ROUTE, when the handler has returned: there signals
 * interrupt it as they interrupt any wait. info: the trap's. Returns the value for the register of the result: the
 * call's number. */
long futex_again(ucontext_t *context, siginfo_t *info, const struct timespec *until)
{
    greg_t *gregs = context->uc_mcontext.gregs;
    struct once_more *frame = (struct once_more *)info;
    *frame = (struct once_more){*until, gregs[REG_R8], gregs[REG_R10], gregs[REG_RSP], gregs[REG_RIP]};
    gregs[REG_R8] = ROUTE;
    gregs[REG_R10] = (greg_t)&frame->until;
    gregs[REG_RSP] = (greg_t)frame;
    gregs[REG_RIP] = (greg_t)futex_once_more;
    return SYS_futex;
}

/* The child starts with its stack pointer at a signal frame. Below it are the address for its thread id, and the id.
 * The child stores the id and returns, as from a signal, to where its parent called clone. */
long clone_into(const uint64_t args[6], void *frame)
{
    long result;
    register uint64_t r10 __asm__("r10") = args[3];
    register uint64_t r8 __asm__("r8") = args[4];
    register uint64_t r9 __asm__("r9") = ROUTE;
    __asm__ volatile("syscall\n"
                     "test %%rax, %%rax\n"
                     "jnz 1f\n"
                     "mov -16(%%rsp), %%rdx\n"
                     "mov -8(%%rsp), %%ecx\n"
                     "mov %%ecx, (%%rdx)\n"
                     "mov %[sigreturn], %%eax\n"
                     "syscall\n"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_clone), "D"(args[0]), "S"(frame), "d"(args[2]), "r"(r10), "r"(r8),
                       "r"(r9), [sigreturn] "i"(SYS_rt_sigreturn)
                     : "rcx", "r11", "memory");
    return result;
}

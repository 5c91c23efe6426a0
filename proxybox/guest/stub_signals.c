/* The guest's own signal handlers.
 *
 * After the seal rt_sigaction and rt_sigprocmask trap. So one native handler is installed for every signal from the
 * start; it looks up the guest's disposition in `actions`. Masks are changed in the saved context, and sigreturn makes
 * them effective. The controller carries out default actions: it decides before it sends a signal.
 */
#include <errno.h>
#include <string.h>

#include "stub_signals.h"

enum { LAST_SIGNAL = 64, SIGNAL_CANCEL = 32, SIGNAL_SETXID = 33 };

struct kernel_sigaction {
    void *handler;
    uint64_t flags;
    void *restorer;
    uint64_t mask;
};

static struct kernel_sigaction actions[LAST_SIGNAL + 1];

#define BIT(signal) (1ul << ((signal)-1))

static bool is_fault(int signal, const siginfo_t *info)
{
    return info->si_code > 0 && (signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGILL || signal == SIGTRAP);
}

/* The faulting instruction runs again with its signal blocked, so the kernel ends the process by that signal. */
static void die_of(int signal, ucontext_t *context)
{
    bool outer = call_begins();
    ASK(CALL_FAULTED, signal); /* the controller may measure the process before it ends */
    call_ends(outer);
    context_repeats(context);
    *(uint64_t *)&context->uc_sigmask |= BIT(signal);
}

static void deliver(int signal, siginfo_t *info, void *context)
{
    struct kernel_sigaction action = actions[signal];
    if (signal == SIGCONT && info->si_value.sival_int == WOKEN)
        return;
    if (!is_fault(signal, info) && put_off(signal, info, context))
        return;
    if (action.handler == (void *)SIG_DFL || action.handler == (void *)SIG_IGN) {
        if (is_fault(signal, info))
            die_of(signal, context);
        return;
    }
    if (action.flags & SA_RESETHAND)
        actions[signal].handler = (void *)SIG_DFL;
    if (!is_fault(signal, info)) {
        info->si_pid = (pid_t)config.pid;
        info->si_uid = config.uid;
    }
    ((void (*)(int, siginfo_t *, void *))action.handler)(signal, info, context);
}

void deliver_put_off(ucontext_t *context)
{
    for (enum put_off kind = ORDINARY; kind < KINDS_PUT_OFF; kind++) {
        struct put_off_signal taken = take_put_off(kind);
        if (kind == ORDINARY && taken.signal)
            *(uint64_t *)&context->uc_sigmask = taken.mask;
        if (taken.signal)
            deliver(taken.signal, &taken.info, context);
    }
}

static void on_bad_memory(int signal, siginfo_t *info, void *context)
{
    bool outer = call_begins();
    bool is_done = is_fault(signal, info) && (guard_repair(context) || emulate_counter(context));
    if (call_ends(outer))
        deliver_put_off(context);
    if (!is_done)
        deliver(signal, info, context);
}

void signals_install(void (*on_sigsys)(int, siginfo_t *, void *))
{
    struct sigaction native = {.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};
    sigfillset(&native.sa_mask);
    sigdelset(&native.sa_mask, SIGSYS);
    sigdelset(&native.sa_mask, SIGSEGV);
    sigdelset(&native.sa_mask, SIGBUS);
    for (int signal = 1; signal <= LAST_SIGNAL; signal++) {
        if (signal == SIGKILL || signal == SIGSTOP || signal == SIGNAL_CANCEL || signal == SIGNAL_SETXID)
            continue;
        native.sa_sigaction = signal == SIGSYS                         ? on_sigsys
                              : signal == SIGSEGV || signal == SIGBUS ? on_bad_memory
                                                                      : deliver;
        sigaction(signal, &native, NULL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* abort(3) sends this thread SIGABRT and then executes `hlt`, which would be reported as a segmentation fault. After
 * the seal the process can send no signal, but the kernel raises SIGTRAP for a breakpoint. Nothing else in an ordinary
 * program executes one, so the controller reports SIGTRAP as SIGABRT (guestprocess.py). */
static void end_of_abort(void) { __asm__ volatile("int3"); }

static bool sends_abort(int number, const uint64_t args[6])
{
    return ((number == SYS_kill || number == SYS_tkill) && args[1] == SIGABRT) || (number == SYS_tgkill && args[2] == SIGABRT);
}

/* The handler in a guest that is only sealed (SEAL_ONLY). It passes the proof of the seal to the controller, lets the
 * process exit, and answers any other call with ENOSYS. glibc's own calls (malloc asks for a few random bytes) go on
 * without them. */
static void on_sigsys_sealed(int signal, siginfo_t *info, void *opaque)
{
    ucontext_t *context = opaque;
    uint64_t args[6];
    (void)signal;
    context_arguments(context, args);
    if (info->si_syscall == CALL_SEALED) {
        context_returns(context, round_trip(CALL_SEALED, args));
        return;
    }
    if (info->si_syscall == SYS_exit_group || info->si_syscall == SYS_exit)
        KERNEL(SYS_exit_group, args[0], ROUTE);
    if (sends_abort(info->si_syscall, args))
        end_of_abort();
    context_returns(context, ERROR(ENOSYS));
}

/* A fault that the stub did not cause happens again when this handler returns, and ends the process then, because its
 * signal is blocked. */
static void on_segv_sealed(int signal, siginfo_t *info, void *opaque)
{
    ucontext_t *context = opaque;
    (void)info;
    if (!guard_repair(context) && !emulate_counter(context))
        sigaddset(&context->uc_sigmask, signal);
}

void signals_install_sealed(void)
{
    struct sigaction native = {.sa_flags = SA_SIGINFO | SA_NODEFER};
    sigset_t none;
    sigemptyset(&none);
    native.sa_sigaction = on_sigsys_sealed;
    sigaction(SIGSYS, &native, NULL);
    native.sa_sigaction = on_segv_sealed;
    sigaction(SIGSEGV, &native, NULL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

long emulate_sigaction(const uint64_t args[6])
{
    struct kernel_sigaction action;
    uint32_t signal = (uint32_t)args[0];
    bool sets = args[1] != 0;
    if (sets && !guarded_copy(&action, (const void *)args[1], sizeof action))
        return ERROR(EFAULT);
    long result = round_trip(SYS_rt_sigaction, args);
    if (result == 0 && sets && signal >= 1 && signal <= LAST_SIGNAL)
        actions[signal] = action;
    if (signal == SIGINT && sets)
        collecting_begin();
    return result;
}

long emulate_sigprocmask(const uint64_t args[6], ucontext_t *context)
{
    uint64_t set = 0, *mask = (uint64_t *)&context->uc_sigmask;
    if (args[1] && !guarded_copy(&set, (const void *)args[1], sizeof set))
        return ERROR(EFAULT);
    long result = round_trip(SYS_rt_sigprocmask, args);
    if (result == 0 && args[1]) {
        if ((int)args[0] == SIG_BLOCK)
            *mask |= set;
        else if ((int)args[0] == SIG_UNBLOCK)
            *mask &= ~set;
        else
            *mask = set;
        *mask &= ~never_blocked;
    }
    return result;
}

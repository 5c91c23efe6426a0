/* Signals that come in the middle of a call.
 *
 * In the handler of a trap every signal but SIGSEGV and SIGBUS is blocked, and in the functions of stub_direct.c none is. A
 * handler of the program's that ran in the middle of a call could make a call of its own, on the same channel. So a
 * signal that comes meanwhile is deferred (`put_off`): it is stored, all others are blocked, and at the end of the call
 * a trap runs its handler, which also restores the mask (`deliver_put_off`). A trapped call does the same for SIGSEGV
 * and SIGBUS, at its own end.
 */
#include <errno.h>

#include "stub_wire.h"

#define BIT(signal) (1ul << ((signal)-1))
/* If these were blocked, a trapped call or a guarded copy would end the process. */
const uint64_t never_blocked = BIT(SIGSYS) | BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGKILL) | BIT(SIGSTOP);

/* Signals that have come in the middle of a call: one signal, after which all others were blocked, and SIGSEGV and
 * SIGBUS, which are never blocked. */
static __thread struct {
    bool in_call;
    struct put_off_signal kept[KINDS_PUT_OFF];
} here __attribute__((tls_model("initial-exec")));

bool put_off(int signal, const siginfo_t *info, ucontext_t *context)
{
    uint64_t *mask = (uint64_t *)&context->uc_sigmask;
    enum put_off kind = signal == SIGSEGV ? BAD_MEMORY : signal == SIGBUS ? BAD_PAGE : ORDINARY;
    if (!here.in_call)
        return false;
    here.kept[kind].info = *info; /* of several faults one is delivered, as on Linux while the first one is pending */
    here.kept[kind].mask = *mask;
    here.kept[kind].signal = signal;
    if (kind == ORDINARY)
        *mask = ~never_blocked;
    return true;
}

bool call_begins(void)
{
    bool outer = here.in_call;
    here.in_call = true;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return outer;
}

bool call_ends(bool outer)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    here.in_call = outer;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return !outer && (here.kept[ORDINARY].signal || here.kept[BAD_MEMORY].signal || here.kept[BAD_PAGE].signal);
}

struct put_off_signal take_put_off(enum put_off kind)
{
    struct put_off_signal taken = here.kept[kind];
    here.kept[kind].signal = 0;
    return taken;
}

void calls_begin_anew(void)
{
    here.in_call = false;
    for (enum put_off kind = ORDINARY; kind < KINDS_PUT_OFF; kind++)
        here.kept[kind].signal = 0;
}

/* A round trip that is no OS call of the program's. */
long ask_between(long number, const uint64_t args[6])
{
    if (!is_sealed)
        return ERROR(ENOSYS);
    bool outer = call_begins();
    long result = round_trip(number, args);
    if (call_ends(outer))
        KERNEL(CALL_PUT_OFF);
    return result;
}

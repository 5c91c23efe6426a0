/* The program's own handlers of signals. */
#ifndef PROXYBOX_STUB_SIGNALS_H
#define PROXYBOX_STUB_SIGNALS_H

#include "stub_clocks.h"

/* stub_signals.c: signals_install takes the handler of SIGSYS, which is in a higher layer (stub_trap.c).
 * deliver_put_off: at the end of a call, in the handler of a trap. */
void signals_install(void (*on_sigsys)(int, siginfo_t *, void *));
void signals_install_sealed(void);
void deliver_put_off(ucontext_t *context);
long emulate_sigaction(const uint64_t args[6]);
long emulate_sigprocmask(const uint64_t args[6], ucontext_t *context);

#endif

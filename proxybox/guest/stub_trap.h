/* Where the program's calls arrive: by a trap, or from functions of libc. */
#ifndef PROXYBOX_STUB_TRAP_H
#define PROXYBOX_STUB_TRAP_H

#include "stub_threads.h"

/* stub_trap.c: the handler of SIGSYS, and the calls that need more than one round trip. plain_call: a call that changes
 * nothing in this process but memory that it names; trip: how it asks the controller. */
void on_sigsys(int number, siginfo_t *info, void *context);
long plain_call(long number, const uint64_t args[6], long (*trip)(long, const uint64_t[6]));

/* stub_direct.c: functions of libc that do without the trap, where the process is sealed. */
void direct_prepare(void); /* before the seal */

#endif

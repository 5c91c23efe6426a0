/* The entry points of the program's calls: by a trap, or from functions of libc. */
#ifndef PROXYBOX_STUB_TRAP_H
#define PROXYBOX_STUB_TRAP_H

#include "stub_threads.h"

/* stub_trap.c: the handler of SIGSYS, and the calls that need more than one round trip. plain_call: a call that changes
 * only memory in this process that it names; trip: the function that calls the controller. */
void on_sigsys(int number, siginfo_t *info, void *context);
long plain_call(long number, const uint64_t args[6], long (*trip)(long, const uint64_t[6]));

/* stub_direct.c: functions of libc that need no trap, where the process is sealed. */
void direct_prepare(void); /* before the seal */

#endif

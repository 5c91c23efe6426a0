/* Threads and copies of the process. */
#ifndef PROXYBOX_STUB_THREADS_H
#define PROXYBOX_STUB_THREADS_H

#include "stub_signals.h"

/* stub_threads.c: threads, and futex waits that the filter does not allow. */
long emulate_clone(const uint64_t args[6], const ucontext_t *context);
long emulate_futex(const uint64_t args[6], ucontext_t *context, siginfo_t *info);

/* stub_fork.c: a copy of the process. */
long emulate_fork(const uint64_t args[6]);
void be_adopted(void); /* the first call of a copy */

/* stub_inspect.c: a copy of this process, to inspect the program. */
void inspect(void);

/* stub_yield.c: before the interpreter's `main`. */
void yield_prepare(void);

#endif

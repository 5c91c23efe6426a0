/* The clocks of the process. */
#ifndef PROXYBOX_STUB_CLOCKS_H
#define PROXYBOX_STUB_CLOCKS_H

#include "stub_memory.h"

/* stub_clock.c: removes all clocks except those that the box may have; clocks_cover returns false when that fails.
 * emulate_counter: whether the reading of a covered counter has faulted. */
bool clocks_cover(void);
long counter_covers(void);
bool emulate_counter(ucontext_t *context);
long emulate_clock_gettime(const uint64_t args[6], const void *caller);

#endif

/* Answers that this process has already, where nobody observes its calls. */
#ifndef PROXYBOX_STUB_ANSWERS_H
#define PROXYBOX_STUB_ANSWERS_H

#include "stub_wire.h"

/* stub_statcache.c: answers that last. statcache_answers: whether a call was answered. */
bool statcache_answers(long number, const uint64_t args[6], long *result);
void statcache_forget(void);
bool may_change_a_status(long number, const uint64_t args[6]);

/* stub_prefetched.c: a file that came whole with the answer to its open. prefetched_answers: whether a call needs no round trip
 * any more. prefetched_give_back: from here on the controller knows how far the file was read. */
bool prefetched_answers(long number, const uint64_t args[6], long *result);
void prefetched_give_back(void);

#endif

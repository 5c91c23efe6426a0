/* Answers that this process has already, where its calls are not observed. */
#ifndef PROXYBOX_STUB_ANSWERS_H
#define PROXYBOX_STUB_ANSWERS_H

#include "stub_wire.h"

/* stub_statcache.c: answers that do not change. statcache_answers: whether a call was answered. */
bool statcache_answers(long number, const uint64_t args[6], long *result);
void statcache_forget(void);
bool may_change_a_status(long number, const uint64_t args[6]);

/* stub_prefetched.c: a file that came whole with the answer to its open. prefetched_answers: whether a call was
 * answered, so that it needs no round trip. prefetched_give_back: reports to the controller how far the file was
 * read. */
bool prefetched_answers(long number, const uint64_t args[6], long *result);
void prefetched_give_back(void);

#endif

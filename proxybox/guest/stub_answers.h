/* Answers that this process has already, where nobody observes its calls. */
#ifndef PROXYBOX_STUB_ANSWERS_H
#define PROXYBOX_STUB_ANSWERS_H

#include "stub_wire.h"

/* stub_lasting.c: answers that last. lasting_answers: whether a call was answered. */
bool lasting_answers(long number, const uint64_t args[6], long *result);
void lasting_forget(void);
bool may_change_a_status(long number, const uint64_t args[6]);

/* stub_handed.c: a file that came whole with the answer to its open. handed_answers: whether a call needs no round trip
 * any more. handed_give_back: from here on the controller knows how far the file was read. */
bool handed_answers(long number, const uint64_t args[6], long *result);
void handed_give_back(void);

#endif

/* The wire, on which calls are sent to the controller; and signals that come meanwhile. */
#ifndef PROXYBOX_STUB_WIRE_H
#define PROXYBOX_STUB_WIRE_H

#include "stub_ground.h"

/* stub_wire.c: each OS call is one round trip on the calling thread's channel. when_inspected: the function for
 * INSPECT. It needs higher layers, and is set at the start (stub_inspect.c). */
extern void (*when_inspected)(void);
bool wire_learn(const struct call_roles *row); /* false for an invalid one */
long round_trip(long number, const uint64_t args[6]);
#define ASK(number, ...) ASK_(number, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define ASK_(number, a, b, c, d, e, f, ...)                                                                       \
    round_trip(number, (const uint64_t[6]){(uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), \
                                           (uint64_t)(f)})
uint64_t calls_begun(void); /* by all threads of this process */
uint64_t calls_answered(void);
uint64_t calls_of_thread(void);
void wire_farewell(const uint64_t args[6]);
void wire_begin(void); /* resets the state of the first channel: for a copy of the process */
bool wire_read_exactly(int fd, void *buffer, size_t size);

/* stub_calls.c: put_off stores a signal that comes between `call_begins` and `call_ends`; false when it has to be
 * delivered now. call_begins returns the argument for call_ends, which returns whether signals have to be delivered.
 * take_put_off removes and returns the signal of a kind; its `signal` is 0 for none. */
_Static_assert(OWN_CALLS_END <= __X32_SYSCALL_BIT, "the stub's own calls would be x32's");
enum { CALL_PUT_OFF = OWN_CALLS_END - 1 }; /* never leaves this process */
enum put_off { ORDINARY, BAD_MEMORY, BAD_PAGE, KINDS_PUT_OFF };
struct put_off_signal {
    int signal;    /* 0: none */
    uint64_t mask; /* of an ordinary one: the value before that signal */
    siginfo_t info;
};
extern const uint64_t never_blocked;
bool put_off(int signal, const siginfo_t *info, ucontext_t *context);
bool call_begins(void);
bool call_ends(bool outer);
struct put_off_signal take_put_off(enum put_off kind);
long ask_between(long number, const uint64_t args[6]); /* anywhere: -ENOSYS before the seal */
void calls_begin_anew(void); /* in a copy that was made in the middle of a call, which it never ends */

#endif

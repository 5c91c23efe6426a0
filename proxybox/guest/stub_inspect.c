/* Inspects a replayed program: where it makes a call, a copy of the process runs Python source from the controller, as
 * if the call itself had called back into the interpreter. The program's own process does not notice it.
 *
 * The copy is made and adopted like that of fork(2) (stub_fork.c). Its calls are answered by a world of its own. It has
 * one thread: where another thread held the interpreter's lock, the copy waits for the lock in vain, and the controller
 * ends the copy.
 */
#include "stub_threads.h"

/* Functions that some interpreters export; NULL in others. */
extern int pypy_execute_source_ptr(const char *source, void *argument) __attribute__((weak));
extern int Py_IsInitialized(void) __attribute__((weak));
extern int PyGILState_Ensure(void) __attribute__((weak));
extern int PyRun_SimpleString(const char *source) __attribute__((weak));

static bool can_run(void)
{
    if (pypy_execute_source_ptr)
        return python_is_free();
    return Py_IsInitialized && PyGILState_Ensure && PyRun_SimpleString && Py_IsInitialized();
}

static void run(const char *source)
{
    if (pypy_execute_source_ptr) {
        pypy_execute_source_ptr(source, NULL);
    } else {
        PyGILState_Ensure();
        PyRun_SimpleString(source);
    }
}

void inspect(void)
{
    static const uint64_t none = 0;
    if (KERNEL(SYS_clone, FORK_FLAGS, 0, 0, 0, 0, ROUTE) != 0)
        return;
    channel_index = 0;
    wire_begin();
    be_adopted();
    settings.unobserved = settings.readings = 0; /* from here on, clocks are read by calls */
    uint64_t room = can_run() ? MAX_FILTER : 0;
    if (ASK(CALL_BORN, filter, room) == 0 && ASK(CALL_BORN) == 0) { /* the source, and then the leave to begin */
        calls_begin_anew();
        KERNEL(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof none); /* traps: the filter does not allow it */
        run((const char *)filter);
    }
    for (;;)
        KERNEL(SYS_exit_group, 0, ROUTE);
}

/* Collects garbage when descriptors have run out. PyPy closes a file without references only when its garbage collector
 * finds it, and a lack of descriptors does not make it collect. So the stub makes it collect once, and repeats the
 * call.
 *
 * The calling thread is in the middle of a system call. Where PyPy has released its lock for that call, Python may run
 * here, as it does when C calls back: through a cffi callback, which takes the lock, works in any thread and survives a
 * full stack. Where this thread holds the lock, the stub does nothing.
 */
#include <errno.h>

#include "stub_memory.h"

/* From libpypy (its embedding API); absent in other interpreters. PyPyGILState_Check: whether this thread holds the
 * lock. */
extern int pypy_execute_source_ptr(const char *source, void *argument) __attribute__((weak));
extern int PyPyGILState_Check(void) __attribute__((weak));

enum { FAILED, DONE, INTERRUPTED };

/* Two cffi callbacks. */
static struct {
    long (*collect)(void);
    void (*interrupt_main)(void);
} python;

/* The loop in `collect` executes bytecodes, because PyPy runs finalizers between bytecodes. A hidden function is
 * invisible to tracers. The handler of a signal that came just before runs inside `collect`, too: `failed` passes on a
 * KeyboardInterrupt, and any other exception is printed. An attribute of a function that the interpreter always has
 * keeps the callbacks alive; this code has no other lasting effect. */
static const char make_callbacks[] =
    "import sys\n"
    "del sys._pypy_execute_source\n"
    "loaded = '_cffi_backend' in sys.modules\n"
    "try:\n"
    "    import gc, _frozen_importlib, _cffi_backend as ffi\n"
    "    from _thread import interrupt_main\n"
    "    from __pypy__ import hidden_applevel\n"
    "    @hidden_applevel\n"
    "    def collect():\n"
    "        gc.collect()\n"
    "        for _ in (1, 2): pass\n"
    "        return 1\n"
    "    @hidden_applevel\n"
    "    def failed(kind, error, trace):\n"
    "        if issubclass(kind, KeyboardInterrupt): return 2\n"
    "        raise error\n"
    "    word = ffi.new_primitive_type('long')\n"
    "    python = (ffi.callback(ffi.new_function_type((), word), collect, 0, failed),\n"
    "              ffi.callback(ffi.new_function_type((), ffi.new_void_type()), interrupt_main))\n"
    "    _frozen_importlib._gcd_import._callbacks = python\n"
    "    addresses = ffi.cast(ffi.new_pointer_type(word), c_argument)\n"
    "    addresses[0], addresses[1] = [int(ffi.cast(word, each)) for each in python]\n"
    "    loaded or sys.modules.pop('_cffi_backend')\n"
    "except Exception: pass\n"; /* another PyPy, or no memory: then the lack of descriptors remains */

static __thread bool collecting __attribute__((tls_model("initial-exec")));
static __thread bool has_closed __attribute__((tls_model("initial-exec")));

void collecting_closed(void) { has_closed |= collecting; }
bool collecting_has_closed(void) { return has_closed; }

bool collecting_is_due = false;

/* When the interpreter has started, PyPy's `site` calls geteuid and then looks up files, without PyPy's lock. Where
 * `site` does not run, PyPy sets SIGINT's handler just before any program runs, but it holds the lock then. */
void collecting_begin(void)
{
    static bool begun = false;
    collecting_is_due |= !begun && pypy_execute_source_ptr && PyPyGILState_Check;
    begun = true;
}

void collecting_prepare(void)
{
    if (PyPyGILState_Check())
        return;
    int error = errno;
    collecting_is_due = false;
    pypy_execute_source_ptr(make_callbacks, &python);
    pypy_execute_source_ptr(make_recursion, NULL);
    errno = error;
}

bool python_is_free(void) { return python.interrupt_main && !PyPyGILState_Check(); }

bool collecting_helps(void)
{
    if (collecting || !python_is_free())
        return false;
    int error = errno;
    bool interrupted = false;
    long result = FAILED;
    collecting = true;
    has_closed = false;
    for (int attempt = 0; attempt < 2 && result != DONE; attempt++) {
        result = python.collect();
        interrupted |= result == INTERRUPTED;
    }
    if (interrupted)
        python.interrupt_main();
    collecting = false;
    errno = error;
    return true;
}

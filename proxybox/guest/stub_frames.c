/* CPython hides no frames of Python's. So whatever must not find ours beneath it is called from here: the program itself,
 * the commands of a session, what a program has registered for its end.
 *
 * `proxybox_lead` is sys.excepthook while the bootstrap ends by an exception (on_cpython.py): at that moment there is no
 * frame any more. The functions are CPython's, of its stable ABI; the stub is not linked with them.
 *
 * This runs in no handler of a signal, and holds the GIL.
 */
#include <dlfcn.h>
#include <stddef.h>

#include "stub.h"

/* A Python object. */
typedef void *object;

/* The function of that name, or NULL. */
static void *python(const char *name) { return dlsym(RTLD_DEFAULT, name); }

#define PYTHON(result, name, ...) ((result(*)(__VA_ARGS__))python(#name))

static void let_go(object thing)
{
    if (thing)
        PYTHON(void, Py_DecRef, object)(thing);
}

/* The exception that was raised, with its traceback. */
static object raised(void)
{
    object kind = NULL, value = NULL, traceback = NULL;
    PYTHON(void, PyErr_Fetch, object *, object *, object *)(&kind, &value, &traceback);
    PYTHON(void, PyErr_NormalizeException, object *, object *, object *)(&kind, &value, &traceback);
    if (value && traceback)
        PYTHON(int, PyException_SetTraceback, object, object)(value, traceback);
    let_go(kind);
    let_go(traceback);
    return value;
}

/* Calls the function of a step, (function, arguments) or (function, arguments, keywords). */
static object carry_out(object step)
{
    object (*item)(object, ssize_t) = PYTHON(object, PyTuple_GetItem, object, ssize_t);
    object function = item(step, 0), arguments = item(step, 1);
    object keywords = PYTHON(ssize_t, PyTuple_Size, object)(step) > 2 ? item(step, 2) : NULL;
    return PYTHON(object, PyObject_Call, object, object, object)(function, arguments, keywords);
}

/* Carries out the steps of the generator `value.steps`: what one returns or raises goes back into the generator. Returns
 * when that has ended or failed, with NULL. */
PUBLIC object proxybox_lead(object kind, object value, object traceback);
PUBLIC object proxybox_lead(object kind, object value, object traceback)
{
    (void)kind;
    (void)traceback;
    object (*tell)(object, const char *, const char *, ...) = PYTHON(object, PyObject_CallMethod, object, const char *, const char *, ...);
    object steps = PYTHON(object, PyObject_GetAttrString, object, const char *)(value, "steps");
    object step = steps ? tell(steps, "__next__", NULL) : NULL;
    while (step) {
        object result = carry_out(step), error = result ? NULL : raised();
        let_go(step);
        step = result ? tell(steps, "send", "(O)", result) : tell(steps, "throw", "(O)", error);
        let_go(result);
        let_go(error);
    }
    let_go(steps);
    return NULL;
}

/* Reports an exception as the interpreter does: one that has ended a program, or (with a `thing`, not None) one that is
 * ignored, and what it came from. Returns None. */
PUBLIC object proxybox_report(object error, object thing);
PUBLIC object proxybox_report(object error, object thing)
{
    object none = python("_Py_NoneStruct");
    object kind = PYTHON(object, PyObject_Type, object)(error);
    PYTHON(void, PyErr_SetObject, object, object)(kind, error);
    let_go(kind);
    if (thing == none)
        PYTHON(void, PyErr_Print, void)();
    else
        PYTHON(void, PyErr_WriteUnraisable, object)(thing);
    PYTHON(void, Py_IncRef, object)(none);
    return none;
}

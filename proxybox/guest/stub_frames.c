/* CPython cannot hide frames of Python. So code that must not find our frames below it is called from here: the program
 * itself, the commands of a session, and functions that a program has registered for its end.
 *
 * `proxybox_lead` is sys.excepthook while the bootstrap ends by an exception (on_cpython.py): at that moment no frame
 * is left. The functions are CPython's, of its stable ABI; the stub is not linked with them.
 *
 * This runs in no handler of a signal, and holds the GIL.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "stub_start.h"

/* A Python object. */
typedef void *object;

/* Returns the function of that name, or NULL. */
static void *python(const char *name) { return dlsym(RTLD_DEFAULT, name); }

#define PYTHON(result, name, ...) ((result(*)(__VA_ARGS__))python(#name))

static void let_go(object thing)
{
    if (thing)
        PYTHON(void, Py_DecRef, object)(thing);
}

/* Returns the exception that was raised, with its traceback. */
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

/* A function of sys that takes nothing, or one argument. */
static object call_of_sys(const char *name, object argument)
{
    object function = PYTHON(object, PySys_GetObject, const char *)(name);
    object result = function ? PYTHON(object, PyObject_CallFunctionObjArgs, object, ...)(function, argument, NULL) : NULL;
    PYTHON(void, PyErr_Clear, void)();
    return result;
}

/* Removes and returns the function that a program has set with `set`, such as sys.settrace, because it must not be
 * called for our frames; NULL for none. */
static object set_aside(const char *get, const char *set)
{
    object none = python("_Py_NoneStruct"), function = call_of_sys(get, NULL);
    if (function && function != none)
        let_go(call_of_sys(set, none));
    return function;
}

static void put_back(const char *set, object function)
{
    if (function && function != python("_Py_NoneStruct"))
        let_go(call_of_sys(set, function));
    let_go(function);
}

/* Carries out the steps of the generator `value.steps`, and sends the result of each back: (result, None), or (None,
 * exception). When the generator has ended or failed, returns NULL. */
PUBLIC object proxybox_lead(object kind, object value, object traceback);
PUBLIC object proxybox_lead(object kind, object value, object traceback)
{
    (void)kind;
    (void)traceback;
    object (*tell)(object, const char *, const char *, ...) = PYTHON(object, PyObject_CallMethod, object, const char *, const char *, ...);
    object steps = PYTHON(object, PyObject_GetAttrString, object, const char *)(value, "steps");
    object none = python("_Py_NoneStruct");
    object step = steps ? tell(steps, "__next__", NULL) : NULL;
    while (step) {
        object result = carry_out(step), error = result ? NULL : raised();
        object trace = set_aside("gettrace", "settrace"), profile = set_aside("getprofile", "setprofile");
        let_go(step);
        step = tell(steps, "send", "((OO))", result ? result : none, error ? error : none);
        put_back("settrace", trace);
        put_back("setprofile", profile);
        let_go(result);
        let_go(error);
    }
    let_go(steps);
    return NULL;
}

/* Reports an exception as the interpreter does: one that has ended a program, or (if `thing` is not None) one that is
 * ignored, with the object `thing` that has raised it. Returns None. */
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

/* Runs a script as the interpreter does, which reports its exceptions. */
PUBLIC int proxybox_run_file(const char *path);
PUBLIC int proxybox_run_file(const char *path)
{
    FILE *file = fopen(path, "r");
    return file ? PYTHON(int, PyRun_SimpleFileExFlags, FILE *, const char *, int, void *)(file, path, 1, NULL) : -1;
}

/* os.fork without its check for threads in /proc, by which a session's clock would advance. Returns the result of
 * fork(2). */
PUBLIC object proxybox_fork(void);
PUBLIC object proxybox_fork(void)
{
    PYTHON(void, PyOS_BeforeFork, void)();
    pid_t pid = fork();
    if (pid)
        PYTHON(void, PyOS_AfterFork_Parent, void)();
    else
        PYTHON(void, PyOS_AfterFork_Child, void)();
    if (pid < 0)
        return PYTHON(object, PyErr_SetFromErrno, object)(*(object *)python("PyExc_OSError"));
    return PYTHON(object, PyLong_FromLong, long)(pid);
}

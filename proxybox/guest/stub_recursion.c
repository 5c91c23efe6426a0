/* sys.setrecursionlimit: bounds what PyPy reserves for recursion by the box's memory.
 *
 * For each level of the limit PyPy reserves 1.3 KB of address space at once, and as much again for each thread, whether
 * or not a program ever recurses so deep. RLIMIT_AS counts reserved space as used, so a program that begins with
 * sys.setrecursionlimit(10**6) would end there. Here it gets a limit for which its memory is enough, at most 200,000,
 * and sys.getrecursionlimit returns the program's own limit; a deeper recursion raises RecursionError. A thread's stack
 * is also not larger than that limit needs.
 *
 * When the error has passed through a level in code that the JIT has compiled, the level has cost 11 KB, in a thread 13
 * KB, reserved space included. The calculation uses 20 KB, because the nursery is part of the memory, too.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sys/resource.h>

#include "stub_memory.h"

/* getrlimit(RLIMIT_AS) returns the policy's memory. A level needs 768 bytes of the C stack. */
const char make_recursion[] =
    "import sys\n"
    "del sys._pypy_execute_source\n"
    "loaded = '_cffi_backend' in sys.modules\n"
    "try:\n"
    "    import _thread, _cffi_backend as ffi\n"
    "    from __pypy__ import hidden_applevel\n"
    "    def make(sys, _thread, ffi):\n"
    "        set_limit, get_limit, set_stack = sys.setrecursionlimit, sys.getrecursionlimit, _thread.stack_size\n"
    "        limits, stacks = [], []\n"
    "        @hidden_applevel\n"
    "        def most():\n"
    "            number = ffi.new_primitive_type('unsigned long')\n"
    "            room = ffi.newp(ffi.new_array_type(ffi.new_pointer_type(number), 2))\n"
    "            integer = ffi.new_primitive_type('int')\n"
    "            kind = ffi.new_function_type((integer, ffi.new_pointer_type(number)), integer, False)\n"
    "            ffi.load_library(None, 0).load_function(kind, 'getrlimit')(9, room)\n"
    "            return max(1000, min(200000, room[0] // 20480))\n"
    "        @hidden_applevel\n"
    "        def setrecursionlimit(limit, /):\n"
    "            real = limit\n"
    "            if isinstance(limit, int) and 1000 < limit < 1 << 31:\n"
    "                real = min(limit, most())\n"
    "            while True:\n"
    "                try:\n"
    "                    set_limit(real)\n"
    "                    break\n"
    "                except MemoryError:\n" /* raised before anything has changed */
    "                    if real <= 1000: raise\n"
    "                    real = max(real // 2, 1000)\n"
    "            limits[:] = () if real == limit else (limit,)\n"
    "        @hidden_applevel\n"
    "        def getrecursionlimit():\n"
    "            return limits[0] if limits else get_limit()\n"
    "        @hidden_applevel\n"
    "        def stack_size(size=0, /):\n"
    "            real = size\n"
    "            if isinstance(size, int) and 8 << 20 < size < 1 << 63:\n"
    "                real = min(size, max(8 << 20, most() * 768 + (2 << 20) & ~4095))\n"
    "            before = set_stack(real)\n"
    "            before = stacks[0] if stacks else before\n"
    "            stacks[:] = () if real == size else (size,)\n"
    "            return before\n"
    "        for place, function, old in ((sys, setrecursionlimit, set_limit), (sys, getrecursionlimit, get_limit),\n"
    "                                     (_thread, stack_size, set_stack)):\n"
    "            function.__module__, function.__doc__ = place.__name__, old.__doc__\n"
    "            function.__qualname__ = function.__name__\n"
    "            setattr(place, function.__name__, function)\n"
    "    make(sys, _thread, ffi)\n"
    "    loaded or sys.modules.pop('_cffi_backend')\n"
    "except Exception: pass\n"; /* another PyPy: its own functions stay */

/* A CPython's stack for a new thread is what threading.stack_size says. Programs set more than a box has, such as half
 * a gigabyte, of which they use little. A thread gets a quarter of the box's memory at most. */
PUBLIC int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size)
{
    static int (*next)(pthread_attr_t *, size_t);
    struct rlimit memory;
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "pthread_attr_setstacksize");
    if (size > 8 << 20 && !getrlimit(RLIMIT_AS, &memory) && memory.rlim_cur != RLIM_INFINITY) {
        size_t most = memory.rlim_cur / 4 & ~(rlim_t)4095;
        size = size < most ? size : most > 8 << 20 ? most : 8 << 20;
    }
    return next(attributes, size);
}

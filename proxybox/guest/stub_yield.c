/* Threads that wait for the interpreter's lock (the GIL). They all run on one CPU. A thread that is woken there takes
 * the CPU from its waker, and finds that the waker still has the GIL. PyPy checks again after 100 us, so each item of a
 * queue between two threads would cost that time. Here the waker runs first, and soon often waits itself.
 *
 * For the program this is a spurious wake-up, which pthread_cond_timedwait(3) allows. PyPy uses it for no other wait,
 * and reads the clock before each wait. So this is for guests that read their clock themselves.
 */
#include <dlfcn.h>
#include <pthread.h>

#include "stub_threads.h"

enum { YIELDS = 16 }; /* between two waits of a thread */

typedef int wait_function(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static wait_function *libc_wait;

void yield_prepare(void)
{
    libc_wait = (wait_function *)dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!libc_wait)
        libc_wait = (wait_function *)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
}

PUBLIC int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                                  const struct timespec *restrict until)
{
    static __thread int yields __attribute__((tls_model("initial-exec"))) = 0;
    if (!settings.unobserved || !(config.flags & CONFIG_REAL_TIME) || yields++ == YIELDS) {
        yields = 0;
        return libc_wait(condition, mutex, until);
    }
    int error = pthread_mutex_unlock(mutex);
    if (error)
        return error;
    KERNEL(SYS_sched_yield);
    return pthread_mutex_lock(mutex);
}

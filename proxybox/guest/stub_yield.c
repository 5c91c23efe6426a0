/* Threads that wait for the interpreter's lock (the GIL). They all run on one CPU. A thread that is woken there takes it from
 * its waker, and finds that the waker still has the GIL. PyPy looks again after 100 us, so each item of a queue between
 * two threads would cost as much. Here the waker goes on first, and by then it often waits itself.
 *
 * For the program this is a spurious wake-up, which pthread_cond_timedwait(3) allows. PyPy waits for nothing else with it.
 */
#include <dlfcn.h>
#include <pthread.h>

#include "stub.h"

enum { YIELDS = 16 }; /* in a row; then the thread waits */

static int (*libc_wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

void yield_prepare(void)
{
    libc_wait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlvsym(
        RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
}

PUBLIC int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                                  const struct timespec *restrict until)
{
    static __thread int yields __attribute__((tls_model("initial-exec"))) = 0;
    if (yields++ < YIELDS) {
        pthread_mutex_unlock(mutex);
        KERNEL(SYS_sched_yield);
        pthread_mutex_lock(mutex);
        return 0;
    }
    yields = 0;
    return libc_wait(condition, mutex, until);
}

/* The overseer: a thread of the controller that ends guests which use more memory than they may (memory.py).
 *
 * It is in C only, because a guest can use its reserved memory before Python code can check it: other threads of the
 * controller's process may hold the interpreter's lock for long.
 *
 * It makes no files and changes no limits. It reads how much memory a process uses, and ends the process by its pidfd.
 * It reads only data of the kernel, and no messages of a guest.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

struct guest;

/* Returns the memory that a process uses, in bytes: the same sum as `space_and_use` in hostproc.py. 0 where it has
 * ended. status: its opened /proc/PID/status. */
PUBLIC uint64_t overseer_use(int pid, int status);

/* Begins to check a guest. most: bytes that it may use, its interpreter's included. cpus: on how many it may run.
 * places: a cpu_set_t of `size` bytes, the CPUs of the overseer's thread if it starts now; NULL for the caller's. The
 * caller closes the descriptors only after `overseer_forget`. Returns 0, and in *watched the guest for the functions
 * below, or an errno. */
PUBLIC int overseer_watch(int pid, int pidfd, int status, uint64_t most, int cpus, const void *places, size_t size,
                          struct guest **watched);

/* The functions below do nothing, and return 0, if the guest is NULL. */

/* Whether it is ended because it used too much: true already before the signal is sent. */
PUBLIC int overseer_has_ended(const struct guest *guest);

/* rests: the guest is stopped, and is not checked. 0: the checks continue. */
PUBLIC void overseer_rest(struct guest *guest, int rests);

/* Ends the checks, and returns whether the guest was ended. The guest must not be passed here again. */
PUBLIC int overseer_forget(struct guest *guest);

enum {
    FASTEST = 6,             /* the most bytes of new memory that a CPU can use in a nanosecond: pages are cleared */
    SHORTEST_NS = 1000000,   /* between two checks of a guest */
    IDLE_NS = 4000000,       /* the same, without CPU time since the last check */
    LONGEST_NS = 50000000,   /* the same, if it uses little, or has ended */
    STACK = 64 << 10,
    STATUS = 8192, /* bytes of proc_pid_status(5); the lines that count are at the beginning */
    NAMES = 4096,  /* bytes of the names of threads that are read at once */
};

/* spent_ns: CPU time at the last check. look_ns: the time of the next check. */
struct guest {
    struct guest *before, *next;
    uint64_t most, spent_ns, look_ns;
    int pid, pidfd, status, cpus;
    bool rests, has_ended;
};

static struct guest all = {.before = &all, .next = &all};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static bool runs;

static uint64_t time_of(clockid_t clock)
{
    struct timespec at;
    return clock_gettime(clock, &at) < 0 ? 0 : (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

static uint64_t least(uint64_t one, uint64_t other) { return one < other ? one : other; }
static uint64_t greatest(uint64_t one, uint64_t other) { return one > other ? one : other; }

static uint64_t told_by(int status)
{
    static const char *const lines[] = {"\nRssAnon:", "\nRssShmem:", "\nVmSwap:", "\nVmPTE:"};
    char text[STATUS];
    uint64_t kilobytes = 0;
    ssize_t count = pread(status, text, sizeof text - 1, 0);
    text[count > 0 ? count : 0] = 0;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        const char *line = strstr(text, lines[i]);
        kilobytes += line ? strtoull(line + strlen(lines[i]), NULL, 10) : 0;
    }
    return kilobytes * 1024;
}

/* The kernel reads the memory through a thread, and the first one may have ended before the others
 * (pthread_exit(3)). */
uint64_t overseer_use(int pid, int status)
{
    char path[NAME_MAX + 16];
    alignas(struct dirent64) char names[NAMES];
    uint64_t used = told_by(status);
    if (used)
        return used;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    int threads = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (ssize_t count; !used && threads >= 0 && (count = getdents64(threads, names, sizeof names)) > 0;) {
        for (ssize_t at = 0; !used && at < count; at += ((struct dirent64 *)(names + at))->d_reclen) {
            snprintf(path, sizeof path, "%s/status", ((struct dirent64 *)(names + at))->d_name);
            int other = openat(threads, path, O_RDONLY | O_CLOEXEC);
            used = other < 0 ? 0 : told_by(other);
            if (other >= 0)
                close(other);
        }
    }
    if (threads >= 0)
        close(threads);
    return used;
}

/* Whether the process has ended: then its number, and the memory read, may be another process's. */
static bool is_gone(int pidfd) { return poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, 0) > 0; }

/* Checks a guest, and returns in how many nanoseconds to check again. */
static uint64_t look(struct guest *guest)
{
    uint64_t spent = time_of((clockid_t)(~(unsigned)guest->pid << 3 | 2)); /* clock_getcpuclockid(3) */
    if (!spent)
        return LONGEST_NS;
    uint64_t shortest = spent == guest->spent_ns ? IDLE_NS : SHORTEST_NS;
    guest->spent_ns = spent;
    uint64_t used = overseer_use(guest->pid, guest->status);
    if (used > guest->most && !is_gone(guest->pidfd)) {
        __atomic_store_n(&guest->has_ended, true, __ATOMIC_RELEASE);
        syscall(SYS_pidfd_send_signal, guest->pidfd, SIGKILL, NULL, 0);
        return LONGEST_NS;
    }
    uint64_t until_full = (guest->most - least(used, guest->most)) / ((uint64_t)guest->cpus * FASTEST);
    return least(greatest(until_full, shortest), LONGEST_NS);
}

static void *run(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "proxybox-memory");
    pthread_mutex_lock(&lock);
    for (;;) {
        uint64_t next = UINT64_MAX;
        for (struct guest *guest = all.next; guest != &all; guest = guest->next) {
            if (guest->rests)
                continue;
            uint64_t now = time_of(CLOCK_MONOTONIC);
            if (guest->look_ns <= now)
                guest->look_ns = now + look(guest);
            next = least(next, guest->look_ns);
        }
        if (next == UINT64_MAX) {
            pthread_cond_wait(&changed, &lock);
        } else {
            struct timespec until = {(time_t)(next / 1000000000), (long)(next % 1000000000)};
            pthread_cond_timedwait(&changed, &lock, &until);
        }
    }
    return NULL;
}

/* During fork(2), no thread changes the data here. The child has no such thread, and no guests. */
static void before_fork(void) { pthread_mutex_lock(&lock); }
static void in_parent(void) { pthread_mutex_unlock(&lock); }

static void in_child(void)
{
    for (struct guest *guest = all.next, *next; guest != &all; guest = next) {
        next = guest->next;
        guest->before = guest->next = guest; /* so that `overseer_forget` still works */
    }
    all.before = all.next = &all;
    runs = false;
    pthread_mutex_init(&lock, NULL);
}

__attribute__((constructor)) static void prepare(void) { pthread_atfork(before_fork, in_parent, in_child); }

/* Starts the thread, unless it runs. It takes no signals of the program. Returns 0, or an errno. */
static int start(const void *places, size_t size)
{
    pthread_condattr_t monotonic;
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t every, before;
    if (runs)
        return 0;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &monotonic);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, greatest(STACK, (uint64_t)PTHREAD_STACK_MIN));
    if (places)
        pthread_attr_setaffinity_np(&attributes, size, places);
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    int error = pthread_create(&thread, &attributes, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    runs = !error;
    return error;
}

int overseer_watch(int pid, int pidfd, int status, uint64_t most, int cpus, const void *places, size_t size,
                   struct guest **watched)
{
    struct guest *guest = calloc(1, sizeof *guest);
    if (!guest)
        return ENOMEM;
    *guest = (struct guest){.most = most, .pid = pid, .pidfd = pidfd, .status = status, .cpus = cpus};
    pthread_mutex_lock(&lock);
    int error = start(places, size);
    if (!error) {
        guest->next = &all;
        guest->before = all.before;
        all.before = all.before->next = guest;
        pthread_cond_signal(&changed);
    }
    pthread_mutex_unlock(&lock);
    if (error)
        free(guest);
    else
        *watched = guest;
    return error;
}

int overseer_has_ended(const struct guest *guest) { return guest && __atomic_load_n(&guest->has_ended, __ATOMIC_ACQUIRE); }

void overseer_rest(struct guest *guest, int rests)
{
    if (!guest)
        return;
    pthread_mutex_lock(&lock);
    guest->rests = rests;
    guest->look_ns = 0;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

int overseer_forget(struct guest *guest)
{
    if (!guest)
        return 0;
    pthread_mutex_lock(&lock);
    guest->before->next = guest->next;
    guest->next->before = guest->before;
    pthread_mutex_unlock(&lock);
    bool has_ended = guest->has_ended;
    free(guest);
    return has_ended;
}

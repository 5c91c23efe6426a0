/* The commonest functions of libc, which ask the controller without a trap. The stub is preloaded, so its definitions
 * come before libc's. A trap costs about half of what the way to the controller and back costs.
 *
 * All other functions, libc's own uses of these, and raw system calls trap, as they do where this file is left out:
 * it routes calls and protects nothing.
 *
 * Signals. In the handler of a trap every signal but SIGSEGV and SIGBUS is blocked, and here none is. A handler of the
 * program's that ran in the middle of a call could make a call of its own, on the same channel. So a signal that comes
 * meanwhile is put off (`put_off`): it is kept, all others are blocked, and at the end of the call a trap runs its handler,
 * which also restores the mask. A trapped call does the same for those two, at its own end.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stub.h"

/* What has come in the middle of a call: one signal, with which all others were blocked, and SIGSEGV and SIGBUS, which
 * never are. */
static __thread struct {
    bool in_call;
    int signal;    /* 0: none */
    uint64_t mask; /* as it was before that signal */
    siginfo_t info;
    struct fault {
        int signal; /* 0: none */
        siginfo_t info;
    } faults[2];
} here __attribute__((tls_model("initial-exec")));

/* Whether the process is sealed, and its calls go to the controller. Before that these functions are libc's. */
static bool sealed = false;

static char *(*libc_getcwd)(char *, size_t);

void direct_prepare(void) { libc_getcwd = (char *(*)(char *, size_t))dlsym(RTLD_NEXT, "getcwd"); }

void direct_begin(void) { sealed = true; }

bool put_off(int signal, const siginfo_t *info, ucontext_t *context)
{
    uint64_t *mask = (uint64_t *)&context->uc_sigmask;
    if (!here.in_call)
        return false;
    if (signal == SIGSEGV || signal == SIGBUS) { /* of several one is delivered, as on Linux while the first is pending */
        here.faults[signal == SIGBUS] = (struct fault){signal, *info};
        return true;
    }
    here.info = *info;
    here.mask = *mask;
    here.signal = signal;
    *mask = ~never_blocked;
    return true;
}

bool call_begins(void)
{
    bool outer = here.in_call;
    here.in_call = true;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return outer;
}

bool call_ends(bool outer)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    here.in_call = outer;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return !outer && (here.signal || here.faults[0].signal || here.faults[1].signal);
}

void calls_begin_anew(void)
{
    here.in_call = false;
    here.signal = here.faults[0].signal = here.faults[1].signal = 0;
}

/* In the handler of a trap at the end of a call. */
void deliver_put_off(ucontext_t *context)
{
    siginfo_t info = here.info;
    int signal = here.signal;
    here.signal = 0;
    if (signal) {
        *(uint64_t *)&context->uc_sigmask = here.mask;
        deliver(signal, &info, context);
    }
    for (struct fault *each = here.faults; each < here.faults + 2; each++) {
        struct fault fault = *each;
        each->signal = 0;
        if (fault.signal)
            deliver(fault.signal, &fault.info, context);
    }
}

/* A round trip that is no OS call of the program's. */
long ask_between(long number, const uint64_t args[6])
{
    if (!sealed)
        return ERROR(ENOSYS);
    bool outer = call_begins();
    long result = round_trip(number, args);
    if (call_ends(outer))
        KERNEL(CALL_PUT_OFF);
    return result;
}

static long trip(long number, const uint64_t args[6])
{
    long result;
    return prefetched_answers(number, args, &result) ? result : coherent_trip(number, args);
}

static long direct(long number, const uint64_t args[6])
{
    long result;
    if (sealed) {
        bool outer = call_begins();
        result = plain_call(number, args, trip);
        if (call_ends(outer))
            KERNEL(CALL_PUT_OFF);
    } else {
        result = kernel_call(number, (long)args[0], (long)args[1], (long)args[2], (long)args[3], (long)args[4], (long)args[5]);
    }
    if (result >= 0 || result < -4095)
        return result;
    errno = (int)-result;
    return -1;
}

#define DIRECT(number, ...) DIRECT_(number, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define DIRECT_(number, a, b, c, d, e, f, ...)                                                                      \
    direct(number, (const uint64_t[6]){(uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), \
                                       (uint64_t)(f)})

/* --- what libc declares --- */

static unsigned mode_of(int flags, va_list list)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(list, unsigned) : 0;
}

PUBLIC uid_t getuid(void) { return (uid_t)DIRECT(SYS_getuid); }
PUBLIC uid_t geteuid(void) { return (uid_t)DIRECT(SYS_geteuid); }
PUBLIC gid_t getgid(void) { return (gid_t)DIRECT(SYS_getgid); }
PUBLIC gid_t getegid(void) { return (gid_t)DIRECT(SYS_getegid); }
PUBLIC pid_t getpid(void) { return (pid_t)DIRECT(SYS_getpid); }

PUBLIC int stat(const char *restrict path, struct stat *restrict status)
{
    return (int)DIRECT(SYS_newfstatat, AT_FDCWD, path, status, 0);
}

PUBLIC int lstat(const char *restrict path, struct stat *restrict status)
{
    return (int)DIRECT(SYS_newfstatat, AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}

PUBLIC int fstatat(int fd, const char *restrict path, struct stat *restrict status, int flags)
{
    return (int)DIRECT(SYS_newfstatat, fd, path, status, flags);
}

PUBLIC int fstat(int fd, struct stat *status) { return (int)DIRECT(SYS_fstat, fd, status); }

PUBLIC char *getcwd(char *to, size_t size)
{
    if (to && size) {
        if (DIRECT(SYS_getcwd, to, size) >= 0)
            return to;
        if (errno != ENAMETOOLONG)
            return NULL;
    }
    return libc_getcwd(to, size); /* which has more ways than the system call */
}

PUBLIC int access(const char *path, int mode) { return (int)DIRECT(SYS_access, path, mode); }

PUBLIC int open(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    unsigned mode = mode_of(flags, list);
    va_end(list);
    return (int)DIRECT(SYS_openat, AT_FDCWD, path, flags, mode);
}

PUBLIC int openat(int fd, const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    unsigned mode = mode_of(flags, list);
    va_end(list);
    return (int)DIRECT(SYS_openat, fd, path, flags, mode);
}

PUBLIC int close(int fd) { return (int)DIRECT(SYS_close, fd); }
PUBLIC ssize_t read(int fd, void *to, size_t size) { return DIRECT(SYS_read, fd, to, size); }
PUBLIC ssize_t write(int fd, const void *from, size_t size) { return DIRECT(SYS_write, fd, from, size); }

PUBLIC ssize_t pread(int fd, void *to, size_t size, off_t at) { return DIRECT(SYS_pread64, fd, to, size, at); }

PUBLIC ssize_t pwrite(int fd, const void *from, size_t size, off_t at)
{
    return DIRECT(SYS_pwrite64, fd, from, size, at);
}

PUBLIC off_t lseek(int fd, off_t to, int whence) { return DIRECT(SYS_lseek, fd, to, whence); }

PUBLIC int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    return (int)DIRECT(SYS_ioctl, fd, request, argument);
}

PUBLIC int isatty(int fd)
{
    char attributes[64]; /* the kernel's struct termios has 36 bytes */
    return DIRECT(SYS_ioctl, fd, TCGETS, attributes) == 0;
}

/* The names by which a CPython knows them: it is compiled for large files. */
#define ALSO(name, other) __asm__(".globl " #other "\n\t.set " #other ", " #name)
ALSO(stat, stat64);
ALSO(lstat, lstat64);
ALSO(fstatat, fstatat64);
ALSO(fstat, fstat64);
ALSO(open, open64);
ALSO(openat, openat64);
ALSO(pread, pread64);
ALSO(pwrite, pwrite64);
ALSO(lseek, lseek64);

PUBLIC int epoll_wait(int fd, struct epoll_event *events, int most, int milliseconds)
{
    return (int)DIRECT(SYS_epoll_wait, fd, events, most, milliseconds);
}

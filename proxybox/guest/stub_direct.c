/* The commonest functions of libc, which call the controller without a trap. The stub is preloaded, so its definitions
 * come before libc's. A trap costs about half as much as a round trip to the controller.
 *
 * All other functions, libc's own uses of these, and raw system calls trap, as they do where this file is left out:
 * it routes calls and protects nothing.
 * Signals that come in the middle of such a call are deferred (stub_calls.c).
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stub_trap.h"

static char *(*libc_getcwd)(char *, size_t);

void direct_prepare(void) { libc_getcwd = (char *(*)(char *, size_t))dlsym(RTLD_NEXT, "getcwd"); }

static long trip(long number, const uint64_t args[6])
{
    long result;
    return prefetched_answers(number, args, &result) ? result : coherent_trip(number, args);
}

static long direct(long number, const uint64_t args[6])
{
    long result;
    if (is_sealed) {
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
    return libc_getcwd(to, size); /* which has more variants than the system call */
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

/* The names that a CPython uses: it is compiled for large files. */
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

/* A file that never changes (one of the interpreter's library) comes whole with the answer to its open. Until it is
 * closed, the calls that read it are answered here: to import a module, PyPy makes twelve of them on one file.
 *
 * It is closed with the next open, so that most files take one round trip in all.
 *
 * This is for a program of one thread whose calls are not observed. Only functions of stub_direct.c call this. Before
 * any call that traps, and could show how far the file was read or that it is still open, the stub reports both to the
 * controller (`prefetched_give_back`).
 */
#include <asm/termbits.h>
#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "stub_answers.h"

static struct {
    int fd;      /* or NO_DESCRIPTOR */
    int closing; /* closed for the program, but not by the controller yet; or NO_DESCRIPTOR */
    int64_t at;
    struct { /* stored by the controller */
        struct stat status;
        char content[WHOLE_FILE];
    } file;
} handed = {.fd = NO_DESCRIPTOR, .closing = NO_DESCRIPTOR};

void prefetched_give_back(void)
{
    int fd = handed.fd;
    handed.fd = NO_DESCRIPTOR;
    if (fd >= 0 && handed.at)
        ASK(SYS_lseek, fd, handed.at, SEEK_SET);
    fd = handed.closing;
    handed.closing = NO_DESCRIPTOR;
    if (fd >= 0)
        ASK(SYS_close, fd);
}

static long open_file(const uint64_t args[6])
{
    if (may_change_a_status(SYS_openat, args))
        statcache_forget();
    int closing = handed.closing;
    handed.closing = NO_DESCRIPTOR;
    prefetched_give_back();
    handed.file.status.st_size = -1; /* a file of a size that the controller does not send */
    long fd = ASK(CALL_OPEN, args[0], args[1], args[2], args[3], &handed.file, closing);
    /* A path that could not be sent, or a box that is observed since: nothing was closed. */
    if (closing >= 0 && (fd == ERROR(EFAULT) || fd == ERROR(ENAMETOOLONG) || fd == ERROR(ENOSYS)))
        ASK(SYS_close, closing);
    if (fd == ERROR(ENOSYS))
        return ASK(SYS_openat, args[0], args[1], args[2], args[3]);
    if (fd >= 0 && (uint64_t)handed.file.status.st_size <= WHOLE_FILE) {
        handed.fd = (int)fd;
        handed.at = 0;
    }
    return fd;
}

static long read_file(char *to, uint64_t size)
{
    uint64_t left = (uint64_t)((int64_t)handed.file.status.st_size - handed.at);
    if (size > left)
        size = left;
    if (!guarded_copy(to, handed.file.content + handed.at, size))
        return ERROR(EFAULT);
    handed.at += (int64_t)size;
    return (long)size;
}

/* False where the controller has to do it, also for a position outside the file. */
static bool seek_file(int64_t to, int whence)
{
    int64_t size = (int64_t)handed.file.status.st_size;
    int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? handed.at : size;
    if ((unsigned)whence > SEEK_END || to < -from || to > size - from)
        return false;
    handed.at = from + to;
    return true;
}

/* Whether a path may lead to /proc/self/fd, by the controller's list. */
static bool may_lead_to_it(long number, const uint64_t args[6])
{
    char text[MAX_OUTSIDE_PROC];
    if (number != SYS_newfstatat && number != SYS_access)
        return false;
    const char *path = (const char *)args[number == SYS_newfstatat];
    for (size_t at = 0; at < config.outside_proc;) {
        size_t size = strlen(outside_proc + at), next = at + size + 1;
        bool all_below = size && outside_proc[next - 2] == '/';
        if (guarded_copy(text, path, size + !all_below) && !memcmp(text, outside_proc + at, size + !all_below))
            return false;
        at = next;
    }
    return true;
}

bool prefetched_answers(long number, const uint64_t args[6], long *result)
{
    if (number == SYS_openat && settings.unobserved && !has_had_threads) {
        *result = open_file(args);
        return true;
    }
    int fd = (int)args[0];
    if (handed.closing >= 0 && (fd == handed.closing || may_lead_to_it(number, args)))
        prefetched_give_back();
    if (statcache_answers(number, args, result))
        return true;
    if (handed.fd < 0 || fd != handed.fd)
        return false;
    switch (number) {
    case SYS_fstat:
        *result = guarded_copy((void *)args[1], &handed.file.status, sizeof handed.file.status) ? 0 : ERROR(EFAULT);
        return true;
    case SYS_read:
        *result = read_file((char *)args[1], args[2]);
        return true;
    case SYS_lseek:
        if (!seek_file((int64_t)args[1], (int)args[2]))
            break;
        *result = handed.at;
        return true;
    case SYS_ioctl:
        if ((uint32_t)args[1] != TCGETS) /* the request of isatty(3) */
            break;
        *result = ERROR(ENOTTY);
        return true;
    case SYS_close:
        handed.closing = fd;
        handed.fd = NO_DESCRIPTOR;
        *result = 0;
        return true;
    default:
        return false;
    }
    prefetched_give_back();
    return false;
}

/* Answers that do not change, for a program whose calls are not observed: they are repeated without a round trip. Only
 * functions of stub_direct.c call this. The controller marks the answers that do not change.
 *
 * Nothing becomes ready in an epoll instance that watches only pipes and counters of the box unless the program makes a
 * call. So when it checks again with no call between, as an event loop does at each turn, nothing is ready again.
 *
 * The status of the interpreter's library, and of folders in memory, changes only by calls that make or change something.
 * An import looks up its folders again and again. This is for a program of one thread. All statuses are forgotten at
 * each call that may change one: at calls that trap, except the loader's calls on a library, and at each open that is
 * not only for reading.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "stub_answers.h"

/* A call of another thread may make a descriptor ready as soon as it has begun, and a long call again and again until
 * it is answered. So the last result is valid if no call was under way, and none has begun since. */
static long look(const uint64_t args[6])
{
    static __thread struct {
        int fd;
        uint64_t begun;
    } empty __attribute__((tls_model("initial-exec"))) = {.fd = -1};
    int fd = (int)args[0];
    uint64_t answered = calls_answered(), begun = calls_begun(); /* in this order */
    if (fd == empty.fd && begun == empty.begun && (int)args[2] > 0) {
        if (has_had_threads)
            KERNEL(SYS_sched_yield); /* they run on one CPU, and this call no longer sleeps */
        return 0;
    }
    long result = ASK(CALL_LOOK, args[0], args[1], args[2]);
    if (result == ERROR(ENOSYS)) /* the box is observed since */
        return ASK(SYS_epoll_wait, args[0], args[1], args[2], 0);
    empty.begun = begun + 1; /* this one */
    empty.fd = result == LASTS && answered == begun ? fd : -1;
    return result == LASTS ? 0 : result;
}

enum { PLACES = 128, LONGEST = 104 };

static struct known {
    uint64_t age;
    uint32_t flags, length;
    char path[LONGEST];
    struct stat status;
} known[PLACES];

static uint64_t age = 1;

void statcache_forget(void) { age++; }

bool may_change_a_status(long number, const uint64_t args[6])
{
    switch (number) {
    case SYS_openat:
        return args[2] & (O_ACCMODE | O_CREAT | O_TRUNC);
    case SYS_read:
    case SYS_pread64:
    case SYS_fstat:
    case SYS_mmap:
    case SYS_close:
        return false;
    default:
        return true;
    }
}

/* Returns the place for the status of a path; NULL for a path that is not remembered. */
static struct known *place_of(const char *path, uint32_t flags, bool *is_known)
{
    char text[LONGEST];
    long length = guarded_length(path, LONGEST);
    if (length <= 0 || length >= LONGEST || !guarded_copy(text, path, (size_t)length) || text[0] != '/')
        return NULL;
    uint32_t sum = flags;
    for (long i = 0; i < length; i++)
        sum = sum * 31 + (uint8_t)text[i];
    struct known *place = &known[sum % PLACES];
    *is_known = place->age == age && place->flags == flags && place->length == length &&
                !memcmp(place->path, text, (size_t)length);
    if (!*is_known) {
        place->age = 0;
        place->flags = flags;
        place->length = (uint32_t)length;
        memcpy(place->path, text, (size_t)length);
    }
    return place;
}

static bool status_of(const uint64_t args[6], long *result)
{
    bool is_known = false;
    uint32_t flags = (uint32_t)args[3];
    struct known *place = flags & ~(uint32_t)AT_SYMLINK_NOFOLLOW ? NULL : place_of((const char *)args[1], flags, &is_known);
    if (!place)
        return false;
    if (is_known) {
        *result = guarded_copy((void *)args[2], &place->status, sizeof place->status) ? 0 : ERROR(EFAULT);
        return true;
    }
    *result = ASK(CALL_STAT, args[1], args[2], args[3]);
    if (*result > 0) {
        place->age = guarded_copy(&place->status, (const void *)args[2], sizeof place->status) ? age : 0;
        *result = 0;
    }
    return *result != ERROR(ENOSYS); /* otherwise the box is observed since then */
}

bool statcache_answers(long number, const uint64_t args[6], long *result)
{
    if (!settings.unobserved)
        return false;
    if (number == SYS_epoll_wait && !(int)args[3]) {
        *result = look(args);
        return true;
    }
    return number == SYS_newfstatat && !has_had_threads && status_of(args, result);
}

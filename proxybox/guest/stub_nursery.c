/* The nursery is the memory in which PyPy makes new objects: 32 MB, of which its start touches every page. PyPy allocates
 * it right after it has asked for the policy's size (stub_environment.c), with one malloc(3) of a little more.
 *
 * On transparent huge pages (madvise(2), MADV_HUGEPAGE) it takes 16 page faults instead of 8,000. A zygote's is on small
 * ones, since each of its copies touches little of it, and would pay for whole huge pages.
 *
 * Right after a garbage collection nothing in the nursery is of use any more, and guests that wait give its pages back:
 * else each copy costs 8,000 entries of the page table, which are made at the fork and taken apart at the copy's end.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "stub.h"

/* MORE: the most that PyPy asks for beyond the nursery itself. */
enum { PAGE = 4096, HUGE_PAGE = 2 << 20, MORE = 256 << 10, KEPT = 1 << 20 };

static struct {
    char *reserved; /* memory on huge pages; NULL: malloc's own is used */
    bool is_expected;
    uint64_t from, to;
} nursery;

static bool has_own_size(char **environment)
{
    static const char name[] = "PYPY_GC_NURSERY=";
    while (*environment && strncmp(*environment, name, sizeof name - 1))
        environment++;
    return *environment;
}

void nursery_prepare(char **environment)
{
    if (!(config.flags & CONFIG_HUGE_NURSERY) || config.nursery < HUGE_PAGE || has_own_size(environment))
        return;
    uint64_t size = config.nursery + MORE;
    long room = KERNEL(SYS_mmap, 0, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room < 0)
        return;
    uint64_t start = (uint64_t)room, end = start + size + HUGE_PAGE, at = (start + HUGE_PAGE - 1) & -(uint64_t)HUGE_PAGE;
    if (at > start)
        KERNEL(SYS_munmap, start, at - start);
    KERNEL(SYS_munmap, at + size, end - at - size);
    KERNEL(SYS_madvise, at, size, MADV_HUGEPAGE);
    nursery.reserved = (char *)at;
}

void nursery_expect(void) { nursery.is_expected = config.nursery > 2 * KEPT && !nursery.from; }

void *__libc_malloc(size_t size);

PUBLIC void *malloc(size_t size)
{
    if (!nursery.is_expected || size < config.nursery || size > config.nursery + MORE)
        return __libc_malloc(size);
    char *made = nursery.reserved ? nursery.reserved : __libc_malloc(size);
    nursery.is_expected = false;
    if (made) {
        nursery.from = (uint64_t)made;
        nursery.to = nursery.from + size;
    }
    return made;
}

/* To be called right after a collection, when all that lives in the nursery is at its start. */
PUBLIC void proxybox_forget_nursery(void);
PUBLIC void proxybox_forget_nursery(void)
{
    uint64_t from = (nursery.from + KEPT + PAGE - 1) & -(uint64_t)PAGE, to = nursery.to & -(uint64_t)PAGE;
    if (nursery.from)
        KERNEL(SYS_madvise, from, to - from, MADV_DONTNEED);
}

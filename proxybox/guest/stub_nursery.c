/* The nursery is the memory in which PyPy makes new objects: 32 MB, of which its start touches every page. PyPy allocates
 * it right after it has asked for the policy's size by getenv(3), with one malloc(3) of a little more.
 *
 * On transparent huge pages (madvise(2), MADV_HUGEPAGE) it takes 16 page faults instead of 8,000. A zygote's is on small
 * ones, since each of its copies touches little of it, and would pay for whole huge pages.
 *
 * Right after a garbage collection the nursery has no used objects, and guests that wait free its pages: otherwise each
 * copy costs 8,000 entries of the page table, which are made at the fork and freed at the copy's end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stub_memory.h"

/* MORE: the most bytes that PyPy allocates beyond the nursery itself. KEPT: bytes that are never freed. A smaller
 * nursery than LEAST is not changed. */
enum { PAGE = 4096, MORE = 256 << 10, KEPT = 1 << 20, LEAST = 4 << 20 };

static struct {
    char *reserved; /* memory on huge pages; NULL: malloc's own is used */
    bool is_expected;
    uint64_t from, to;
} nursery;

/* Returns the value of a variable; NULL where there is none of that name. */
static char *variable(char **environment, const char *name)
{
    size_t size = strlen(name);
    for (char **each = environment; each && *each; each++)
        if (!strncmp(*each, name, size) && (*each)[size] == '=')
            return *each + size + 1;
    return NULL;
}

void nursery_prepare(char **environment)
{
    if (!(config.flags & CONFIG_HUGE_NURSERY) || config.nursery < LEAST || variable(environment, "PYPY_GC_NURSERY"))
        return;
    nursery.reserved = (char *)room_on_huge_pages(config.nursery + MORE);
}

/* PyPy reads the variable of the size, allocates the nursery, and reads the variable of the most pinned objects. */
static void look_for_nursery(const char *name)
{
    if (!strcmp(name, "PYPY_GC_NURSERY"))
        nursery.is_expected = config.nursery >= LEAST && !nursery.from;
    else if (!strcmp(name, "PYPY_GC_MAX_PINNED"))
        nursery.is_expected = false;
}

/* With this PyPy's garbage collector reads its sizes before any program runs. The policy sets the size of the nursery.
 * PyPy would otherwise take it from the processor's cache, which would show the processor to the guest. The value is in
 * no environment that a program can see. The policy's own environment variables have priority. PYPY_GC_MIN gets the
 * same value: its default is eight nurseries, all of which could be garbage. */
PUBLIC char *getenv(const char *name)
{
    static char size[24];
    char *own = variable(environ, name);
    if (own)
        return own;
    look_for_nursery(name);
    if (!config.nursery || (strcmp(name, "PYPY_GC_NURSERY") && strcmp(name, "PYPY_GC_MIN")))
        return NULL;
    snprintf(size, sizeof size, "%llu", (unsigned long long)config.nursery);
    return size;
}

PUBLIC void *malloc(size_t size)
{
    if (!nursery.is_expected || size < config.nursery || size > config.nursery + MORE)
        return libc_malloc(size);
    char *made = nursery.reserved ? nursery.reserved : libc_malloc(size);
    nursery.is_expected = false;
    if (made) {
        nursery.from = (uint64_t)made;
        nursery.to = nursery.from + size;
    }
    return made;
}

/* Called right after a collection, when all live objects in the nursery are at its start. That is so with one thread:
 * others may have made objects meanwhile, and pinned objects that they write. */
PUBLIC void proxybox_forget_nursery(void);
PUBLIC void proxybox_forget_nursery(void)
{
    uint64_t from = (nursery.from + KEPT + PAGE - 1) & -(uint64_t)PAGE, to = nursery.to & -(uint64_t)PAGE;
    if (nursery.from && !has_had_threads)
        KERNEL(SYS_madvise, from, to - from, MADV_DONTNEED);
}

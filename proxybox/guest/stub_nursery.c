/* The nursery is the memory in which PyPy makes new objects: 32 MB, of which its start touches every page. Right after a
 * garbage collection nothing in it is of use any more, and a zygote gives its pages back: else each copy costs 8,000
 * entries of the page table, which are made at the fork and taken apart at the copy's end.
 *
 * PyPy allocates the nursery right after it has asked for the policy's size (stub_environment.c), with one malloc(3) of a
 * little more.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "stub.h"

enum { PAGE = 4096, SPARE = 1 << 20 };

static bool is_expected = false;
static uint64_t nursery, nursery_end;

void nursery_expect(void) { is_expected = config.nursery > 2 * SPARE && !nursery; }

void *__libc_malloc(size_t size);

PUBLIC void *malloc(size_t size)
{
    void *made = __libc_malloc(size);
    if (is_expected && made && size >= config.nursery && size < config.nursery + SPARE) {
        is_expected = false;
        nursery = (uint64_t)made;
        nursery_end = nursery + size;
    }
    return made;
}

/* To be called right after a collection, when all that lives in the nursery is at its start. */
PUBLIC void proxybox_forget_nursery(void);
PUBLIC void proxybox_forget_nursery(void)
{
    uint64_t from = (nursery + SPARE + PAGE - 1) & -(uint64_t)PAGE, to = nursery_end & -(uint64_t)PAGE;
    if (nursery)
        KERNEL(SYS_madvise, from, to - from, MADV_DONTNEED);
}

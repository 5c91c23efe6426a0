/* A zygote's interpreter moves onto huge pages. Its text and data are files' mappings, which the kernel maps page by page
 * in each copy: some 100 faults, and the copying of as many page table entries. On transparent huge pages (madvise(2),
 * MADV_HUGEPAGE) a copy has these from the start. The zygote pays for it once, with memory of that size.
 *
 * Called before the seal, where the controller has found that the kernel gives such pages. A mapping for which this
 * fails does not change.
 */
#include <string.h>
#include <sys/mman.h>

#include "stub_memory.h"

enum { HUGE_PAGE = 2 << 20 };

uint64_t room_on_huge_pages(uint64_t size)
{
    long room = KERNEL(SYS_mmap, 0, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room < 0)
        return 0;
    uint64_t start = (uint64_t)room, end = start + size + HUGE_PAGE, at = (start + HUGE_PAGE - 1) & -(uint64_t)HUGE_PAGE;
    if (at > start)
        KERNEL(SYS_munmap, start, at - start);
    KERNEL(SYS_munmap, at + size, end - at - size);
    if (KERNEL(SYS_madvise, at, size, MADV_HUGEPAGE) == 0)
        return at;
    KERNEL(SYS_munmap, at, size);
    return 0;
}

static void move(const struct mapping *map, int protection)
{
    uint64_t from = (map->from + HUGE_PAGE - 1) & -(uint64_t)HUGE_PAGE, to = map->to & -(uint64_t)HUGE_PAGE;
    if (from >= to)
        return;
    uint64_t size = to - from, at = room_on_huge_pages(size);
    if (!at)
        return;
    memcpy((void *)at, (const void *)from, size);
    if (KERNEL(SYS_mprotect, at, size, protection) < 0 ||
        KERNEL(SYS_mremap, at, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, from) < 0)
        KERNEL(SYS_munmap, at, size);
}

static bool move_interpreter(const struct mapping *map, void *context)
{
    (void)context;
    if (strstr(map->name, "/libpypy")) {
        if (!strncmp(map->name, " r-xp", 5))
            move(map, PROT_READ | PROT_EXEC);
        if (!strncmp(map->name, " rw-p", 5))
            move(map, PROT_READ | PROT_WRITE);
    }
    return true;
}

void use_huge_pages(void) { each_mapping(move_interpreter, NULL); }

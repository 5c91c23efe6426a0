/* Whether memory can be read. */
#include "stub_ground.h"

bool guarded_range(const void *from, size_t size)
{
    uint64_t at = (uint64_t)from;
    char probe;
    if (!size)
        return true;
    if (at + size < at)
        return false;
    for (size_t offset = 0; offset < size; offset += 4096)
        if (!guarded_copy(&probe, (const void *)(at + offset), 1))
            return false;
    return guarded_copy(&probe, (const void *)(at + size - 1), 1);
}

/* Whether memory can be read. */
#include "stub_ground.h"

bool guarded_range(const void *from, size_t size)
{
    const char *at = from;
    char probe;
    if (!size)
        return true;
    if ((uintptr_t)at + size < (uintptr_t)at)
        return false;
    for (size_t offset = 0; offset < size; offset += 4096)
        if (!guarded_copy(&probe, at + offset, 1))
            return false;
    return guarded_copy(&probe, at + size - 1, 1);
}

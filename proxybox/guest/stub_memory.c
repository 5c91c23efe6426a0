/* Mappings of virtual files: anonymous memory, filled by proxied reads and written back by proxied writes.
 *
 * The controller answers mmap of a file with a hidden descriptor that keeps the open file alive. Private mappings
 * close it when they are filled. Shared ones keep it until munmap, and live at SHARED_BASE, where the filter sends
 * munmap here.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include "stub.h"

enum { PAGE = 4096, MAX_SHARED = 256 };

static struct shared {
    uint64_t address, length, offset;
    int fd;
    bool writable;
} shared[MAX_SHARED];
static uint64_t next_shared = SHARED_BASE;
static int shared_lock;

static void lock(void)
{
    while (__atomic_exchange_n(&shared_lock, 1, __ATOMIC_ACQUIRE))
        KERNEL(SYS_sched_yield);
}

static void unlock(void) { __atomic_store_n(&shared_lock, 0, __ATOMIC_RELEASE); }

static uint64_t whole_pages(uint64_t length) { return (length + PAGE - 1) & ~(uint64_t)(PAGE - 1); }

static long map_anonymous(uint64_t address, uint64_t length, int flags)
{
    return KERNEL(SYS_mmap, address, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

/* Reads the file into the mapping until its end; what is behind stays zero. */
static long fill(uint64_t address, uint64_t length, int fd, uint64_t offset)
{
    for (uint64_t done = 0; done < length;) {
        uint64_t piece = length - done < MAX_PAYLOAD ? length - done : MAX_PAYLOAD;
        long got = ASK(SYS_pread64, fd, address + done, piece, offset + done);
        if (got <= 0)
            return got == ERROR(EINTR) ? ERROR(EAGAIN) : got;
        done += (uint64_t)got;
    }
    return 0;
}

/* Writes no more than the file holds: a mapping never makes its file longer. */
static void write_back(const struct shared *map, uint64_t from, uint64_t length)
{
    struct {
        char before_size[48];
        int64_t size;
        char after_size[88];
    } status;
    if (!map->writable || ASK(SYS_fstat, map->fd, &status) != 0)
        return;
    uint64_t end = map->offset + map->length, file_end = (uint64_t)status.size;
    if (end > file_end)
        end = file_end;
    for (uint64_t at = map->offset + from; at < end && length;) {
        uint64_t piece = end - at < length ? end - at : length;
        if (piece > MAX_PAYLOAD)
            piece = MAX_PAYLOAD;
        long put = ASK(SYS_pwrite64, map->fd, map->address + (at - map->offset), piece, at);
        if (put <= 0)
            return;
        at += (uint64_t)put;
        length -= (uint64_t)put;
    }
}

static struct shared *find_shared(uint64_t address)
{
    for (int i = 0; i < MAX_SHARED; i++)
        if (shared[i].length && address >= shared[i].address && address < shared[i].address + shared[i].length)
            return &shared[i];
    return NULL;
}

static long map_shared(const uint64_t args[6], uint64_t length, int fd)
{
    struct shared *map = NULL;
    lock();
    for (int i = 0; i < MAX_SHARED && !map; i++)
        if (!shared[i].length)
            map = &shared[i];
    uint64_t address = next_shared;
    if (map) {
        *map = (struct shared){address, length, args[5], fd, (args[2] & PROT_WRITE) != 0};
        next_shared += length + PAGE;
    }
    unlock();
    if (!map)
        return ERROR(ENOMEM);
    long result = map_anonymous(address, length, MAP_FIXED_NOREPLACE);
    if (result < 0)
        map->length = 0;
    return result;
}

long emulate_mmap(const uint64_t args[6])
{
    int flags = (int)args[3], kind = flags & MAP_TYPE;
    long hidden = round_trip(SYS_mmap, args);
    if (hidden < 0)
        return hidden;
    uint64_t length = whole_pages(args[1]);
    int placed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    if (flags & MAP_ANONYMOUS) { /* shared or with a flag that is not native: private memory serves one process */
        long result = map_anonymous(args[0], length, placed);
        if (result >= 0 && args[2] != (PROT_READ | PROT_WRITE))
            KERNEL(SYS_mprotect, result, length, args[2]);
        return result;
    }
    bool is_shared = kind != MAP_PRIVATE && !placed;
    long result = is_shared ? map_shared(args, length, (int)hidden) : map_anonymous(args[0], length, placed);
    long filled = result < 0 ? result : fill((uint64_t)result, length, (int)hidden, args[5]);
    if (filled < 0 && result >= 0)
        KERNEL(SYS_munmap, result, length, ROUTE);
    if (filled < 0 || !is_shared)
        ASK(SYS_close, hidden);
    if (filled < 0) {
        struct shared *map = is_shared ? find_shared((uint64_t)result) : NULL;
        if (map)
            map->length = 0;
        return filled;
    }
    if (args[2] != (PROT_READ | PROT_WRITE))
        KERNEL(SYS_mprotect, result, length, args[2]);
    return result;
}

static void forget(struct shared *map)
{
    write_back(map, 0, map->length);
    ASK(SYS_close, map->fd);
    map->length = 0;
}

long emulate_munmap(const uint64_t args[6])
{
    struct shared *map = find_shared(args[0]);
    if (map && args[0] == map->address && whole_pages(args[1]) >= map->length)
        forget(map);
    else if (map)
        write_back(map, 0, map->length);
    return KERNEL(SYS_munmap, args[0], args[1], ROUTE);
}

/* A larger shared mapping is a new one, filled from the file again. */
static long grow_shared(struct shared *map, uint64_t length)
{
    write_back(map, 0, map->length);
    uint64_t old_address = map->address, old_length = map->length, address = next_shared;
    next_shared += length + PAGE;
    long result = map_anonymous(address, length, MAP_FIXED_NOREPLACE);
    if (result < 0)
        return result;
    fill(address, length, map->fd, map->offset);
    map->address = address;
    map->length = length;
    KERNEL(SYS_munmap, old_address, old_length, ROUTE);
    return result;
}

long emulate_mremap(const uint64_t args[6])
{
    uint64_t address = args[0], old_length = whole_pages(args[1]), length = whole_pages(args[2]);
    if ((address & (PAGE - 1)) || !length || !old_length || (args[3] & ~(uint64_t)MREMAP_MAYMOVE))
        return ERROR(EINVAL);
    long allowed = round_trip(SYS_mremap, args);
    if (allowed < 0)
        return allowed;
    struct shared *map = find_shared(address);
    if (length <= old_length) {
        if (map && map->address == address)
            map->length = length;
        if (length < old_length)
            KERNEL(SYS_munmap, address + length, old_length - length, ROUTE);
        return (long)address;
    }
    if (map)
        return map->address == address ? grow_shared(map, length) : ERROR(EINVAL);
    long more = map_anonymous(address + old_length, length - old_length, MAP_FIXED_NOREPLACE);
    if (more >= 0)
        return (long)address;
    if (!(args[3] & MREMAP_MAYMOVE))
        return ERROR(ENOMEM);
    long result = map_anonymous(0, length, 0);
    if (result < 0)
        return result;
    if (!guarded_copy((void *)result, (const void *)address, old_length)) {
        KERNEL(SYS_munmap, result, length, ROUTE);
        return ERROR(EFAULT);
    }
    KERNEL(SYS_munmap, address, old_length, ROUTE);
    return result;
}

long emulate_msync(const uint64_t args[6])
{
    long result = round_trip(SYS_msync, args);
    struct shared *map = result ? NULL : find_shared(args[0]);
    if (map)
        write_back(map, args[0] - map->address, whole_pages(args[1]));
    return result;
}

void write_back_all(void)
{
    for (int i = 0; i < MAX_SHARED; i++)
        if (shared[i].length)
            forget(&shared[i]);
}

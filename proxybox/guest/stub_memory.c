/* Mappings of virtual files: anonymous memory, filled by proxied reads and written back by proxied writes. Only files
 * that never change (libraries) are mapped natively, where the filter lets the controller install them here.
 *
 * The controller answers an mmap of a file with a hidden descriptor that keeps the open file alive. For private
 * mappings, and for shared ones that are only read, the stub closes it when the memory is filled. For other mappings it
 * stays open until munmap. These lie at SHARED_BASE, where the filter traps munmap, so that it comes to the stub. A
 * page of them is written back only when its checksum has changed since the page last equalled the file: so two
 * mappings of a file do not undo each other's changes.
 */
#include <errno.h>
#include <stddef.h>
#include <unistd.h>
#include <sys/mman.h>

#include "stub_memory.h"

enum { PAGE = 4096, MAX_SHARED = 4096, MAX_MET = 64 };

/* Addresses after those of shared mappings, where no other memory is. */
#define GROWING_BASE 0x200000000000ul
#define GROWING_END 0x500000000000ul
#define GROWING_LARGEST (1ul << 40)

static struct shared {
    uint64_t address, length, offset;
    uint64_t *sums; /* of each page; NULL where there was no memory for them */
    int fd;
} shared[MAX_SHARED];
static int shared_end; /* one more than the highest index that was ever used */
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
    int all = MAP_PRIVATE | MAP_ANONYMOUS | flags;
    long result = KERNEL(SYS_mmap, address, length, PROT_READ | PROT_WRITE, all, -1, 0);
    if (result == ERROR(ENOMEM) && room_for(length, FOR_USE))
        result = KERNEL(SYS_mmap, address, length, PROT_READ | PROT_WRITE, all, -1, 0);
    return result;
}

/* The checksum of a page of zeros, with which a mapping begins, is 0. So is that of a page which the program has
 * unmapped. */
static uint64_t page_sum(uint64_t address)
{
    const uint64_t *word = (const uint64_t *)address;
    uint64_t sum = 0;
    if (!guarded_range(word, PAGE))
        return 0;
    for (size_t i = 0; i < PAGE / sizeof *word; i++) {
        sum = (sum ^ word[i]) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 29;
    }
    return sum;
}

static void remember(const struct shared *map, uint64_t from, uint64_t length)
{
    for (uint64_t at = from; map->sums && at < from + length; at += PAGE)
        map->sums[at / PAGE] = page_sum(map->address + at);
}

static void keep_sums(struct shared *map)
{
    long sums = map_anonymous(0, whole_pages(map->length / PAGE * sizeof *map->sums), 0);
    map->sums = sums < 0 ? NULL : (uint64_t *)sums;
}

static void drop_sums(struct shared *map)
{
    if (map->sums)
        KERNEL(SYS_munmap, map->sums, whole_pages(map->length / PAGE * sizeof *map->sums), ROUTE);
    map->sums = NULL;
}

/* Reads the file into memory up to the file's end; the rest of the memory stays zero. Returns the bytes read, or
 * -errno. */
static long fill(uint64_t address, uint64_t length, int fd, uint64_t offset)
{
    uint64_t done = 0;
    while (done < length) {
        uint64_t piece = length - done < MAX_PAYLOAD ? length - done : MAX_PAYLOAD;
        long got = ASK(SYS_pread64, fd, address + done, piece, offset + done);
        if (got < 0)
            return got == ERROR(EINTR) ? ERROR(EAGAIN) : got;
        if (got == 0)
            break;
        if ((uint64_t)got > piece)
            return ERROR(EIO); /* bytes after the mapping are ignored */
        done += (uint64_t)got;
    }
    return (long)done;
}

/* Returns how many bytes of the mapping are in the file: a mapping never makes its file longer. */
static uint64_t end_of_file(const struct shared *map)
{
    struct {
        char before_size[48];
        int64_t size;
        char after_size[88];
    } status;
    if (ASK(SYS_fstat, map->fd, &status) != 0 || (uint64_t)status.size <= map->offset)
        return 0;
    uint64_t size = (uint64_t)status.size - map->offset;
    return size < map->length ? size : map->length;
}

static bool is_changed(const struct shared *map, uint64_t at)
{
    return guarded_range((const void *)(map->address + at), PAGE) &&
           (!map->sums || map->sums[at / PAGE] != page_sum(map->address + at));
}

/* Returns 0, or the error of a write that failed: the disk space is limited. */
static long write_back(const struct shared *map, uint64_t from, uint64_t length)
{
    uint64_t end = end_of_file(map), at = from & ~(uint64_t)(PAGE - 1);
    if (end > from + length)
        end = from + length;
    while (at < end) {
        uint64_t first = at;
        while (at < end && at - first < MAX_PAYLOAD && is_changed(map, at))
            at += PAGE;
        uint64_t piece = (at < end ? at : end) - first;
        if (at == first) {
            at += PAGE;
            continue;
        }
        long written = ASK(SYS_pwrite64, map->fd, map->address + first, piece, map->offset + first);
        if (written != (long)piece)
            return written < 0 ? written : ERROR(EIO);
        remember(map, first, at - first);
    }
    return 0;
}

static struct shared *find_shared(uint64_t address)
{
    for (int i = 0; i < shared_end; i++)
        if (shared[i].length && address >= shared[i].address && address < shared[i].address + shared[i].length)
            return &shared[i];
    return NULL;
}

static struct shared *find_mapping(int fd)
{
    for (int i = 0; i < shared_end; i++)
        if (shared[i].length && shared[i].fd == fd)
            return &shared[i];
    return NULL;
}

/* Reads a part of a mapping again after a call has written to its file: `size` bytes at offset `at`, or everything from
 * there on where the size is not known. */
static void refresh(const struct shared *map, uint64_t at, uint64_t size)
{
    uint64_t from = at > map->offset ? (at - map->offset) & ~(uint64_t)(PAGE - 1) : 0;
    uint64_t end = at + size > map->offset ? whole_pages(at + size - map->offset) : 0;
    if (end > map->length || end < from)
        end = map->length;
    if (from >= end || !guarded_range((const void *)(map->address + from), end - from))
        return;
    long filled = fill(map->address + from, end - from, map->fd, map->offset + from);
    if (filled > 0)
        remember(map, from, (uint64_t)filled);
}

static void refresh_all(const int *met, int count, long number, const uint64_t args[6], long result)
{
    uint64_t at = 0, size = UINT64_MAX >> 1;
    if (number == SYS_pwrite64 || number == SYS_pwritev) {
        at = args[3];
        size = (uint64_t)result;
    } else if (number == SYS_write || number == SYS_writev) {
        size = (uint64_t)result;
        at = (uint64_t)ASK(SYS_lseek, args[0], 0, SEEK_CUR) - size;
    }
    for (int i = 0; i < count; i++) {
        struct shared *map = find_mapping(met[i]);
        if (map)
            refresh(map, at, size);
    }
}

static bool writes(long number)
{
    switch (number) {
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64:
    case SYS_pwritev:
    case SYS_pwritev2:
    case SYS_ftruncate:
    case SYS_sendfile:
    case SYS_copy_file_range:
        return true;
    default:
        return false;
    }
}

long coherent_trip(long number, const uint64_t args[6])
{
    int met[MAX_MET], count = 0;
    long result = round_trip(number, args);
    while (result <= WRITE_BACK) {
        struct shared *map = find_mapping((int)(WRITE_BACK - result));
        if (map)
            write_back(map, 0, map->length);
        if (map && count < MAX_MET)
            met[count++] = map->fd;
        result = round_trip(number, args);
    }
    if (count && result >= 0 && writes(number))
        refresh_all(met, count, number, args, result);
    return result;
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
        *map = (struct shared){address, length, args[5], NULL, fd};
        next_shared += length + PAGE;
        if (map - shared >= shared_end)
            shared_end = (int)(map - shared) + 1;
    }
    unlock();
    if (!map)
        return ERROR(ENOMEM);
    long result = map_anonymous(address, length, MAP_FIXED_NOREPLACE);
    if (result < 0)
        map->length = 0;
    else
        keep_sums(map);
    return result;
}

static void end(struct shared *map)
{
    drop_sums(map);
    map->length = 0;
}

static long map_library(const uint64_t args[6])
{
    uint64_t flags = MAP_PRIVATE | (args[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE));
    uint64_t fd = (uint64_t)ROUTE << 32 | (uint64_t)(FIRST_LIBRARY_FD + channel_index);
    return KERNEL(SYS_mmap, args[0], args[1], args[2], flags, fd, args[5]);
}

/* Each try is granted anew. */
static long map_library_with_room(const uint64_t args[6], long *hidden)
{
    long result = map_library(args);
    if (result == ERROR(ENOMEM) && room_for(args[1], A_FILE) && (*hidden = coherent_trip(CALL_MAP, args)) == LIBRARY)
        result = map_library(args);
    return result;
}

long emulate_mmap(const uint64_t args[6])
{
    int flags = (int)args[3], kind = flags & MAP_TYPE;
    bool may_be_library = can_map_libraries && kind == MAP_PRIVATE && !(flags & MAP_ANONYMOUS);
    long hidden = coherent_trip(may_be_library ? CALL_MAP : SYS_mmap, args);
    if (hidden == LIBRARY) {
        long result = map_library_with_room(args, &hidden);
        if (result >= 0 || (result == ERROR(ENOMEM) && hidden == LIBRARY))
            return result;
        if (hidden == LIBRARY)
            hidden = coherent_trip(SYS_mmap, args); /* its filesystem lacks PROT_EXEC, or it was not installed */
    }
    if (hidden == ERROR(ENFILE) && collecting_helps()) /* unused mappings keep files open until they are collected */
        hidden = coherent_trip(SYS_mmap, args);
    if (hidden < 0)
        return hidden;
    uint64_t length = whole_pages(args[1]);
    int placed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    /* shared, or with a flag that the filter does not allow: private memory serves as well within one process */
    if (flags & MAP_ANONYMOUS) {
        long result = map_anonymous(args[0], length, placed);
        if (result >= 0 && args[2] != (PROT_READ | PROT_WRITE))
            KERNEL(SYS_mprotect, result, length, args[2]);
        return result;
    }
    bool is_shared = kind != MAP_PRIVATE && !placed && (args[2] & PROT_WRITE);
    long result = is_shared ? map_shared(args, length, (int)hidden) : map_anonymous(args[0], length, placed);
    long filled = result < 0 ? result : fill((uint64_t)result, length, (int)hidden, args[5]);
    if (filled < 0 && result >= 0)
        KERNEL(SYS_munmap, result, length, ROUTE);
    if (filled < 0 || !is_shared)
        ASK(SYS_close, hidden);
    struct shared *map = is_shared && result >= 0 ? find_shared((uint64_t)result) : NULL;
    if (filled < 0) {
        if (map)
            end(map);
        return filled;
    }
    if (map)
        remember(map, 0, (uint64_t)filled);
    if (args[2] != (PROT_READ | PROT_WRITE))
        KERNEL(SYS_mprotect, result, length, args[2]);
    return result;
}

static void forget(struct shared *map)
{
    write_back(map, 0, map->length);
    ASK(SYS_close, map->fd);
    end(map);
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

/* A shared mapping that grows becomes a new one, filled from the file again. */
static long grow_shared(struct shared *map, uint64_t length)
{
    write_back(map, 0, map->length);
    uint64_t old_address = map->address, old_length = map->length, address = next_shared;
    next_shared += length + PAGE;
    long result = map_anonymous(address, length, MAP_FIXED_NOREPLACE);
    if (result < 0)
        return result;
    long filled = fill(address, length, map->fd, map->offset);
    drop_sums(map);
    map->address = address;
    map->length = length;
    keep_sums(map);
    remember(map, 0, filled < 0 ? 0 : (uint64_t)filled);
    KERNEL(SYS_munmap, old_address, old_length, ROUTE);
    return result;
}

/* Memory that has grown will grow again: a list's memory does so with every eighth element. So it moves to a place with
 * free space after it, seven times its size, and is not copied again. */
static long map_with_room(uint64_t length)
{
    static uint64_t next = GROWING_BASE;
    if (length < GROWING_LARGEST) {
        uint64_t room = 8 * length + PAGE, place = __atomic_fetch_add(&next, room, __ATOMIC_RELAXED);
        long result = place + room < GROWING_END ? map_anonymous(place, length, MAP_FIXED_NOREPLACE) : -1;
        if (result >= 0)
            return result;
    }
    return map_anonymous(0, length, 0);
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
        if (map && map->address == address && length < map->length) {
            write_back(map, 0, map->length);
            drop_sums(map);
            map->length = length;
            keep_sums(map);
            remember(map, 0, end_of_file(map));
        }
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
    long result = map_with_room(length);
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
    return map ? write_back(map, args[0] - map->address, whole_pages(args[1])) : result;
}

void write_back_all(void)
{
    for (int i = 0; i < shared_end; i++)
        if (shared[i].length)
            forget(&shared[i]);
}

/* Allocations that fail for lack of address space. The kernel limits address space (RLIMIT_AS), but the policy limits
 * used memory: programs reserve much memory of which they use little, and map libraries. So where an allocation fails,
 * the stub requests room from the controller, which can read the used memory. If there is room, the allocation is
 * repeated. Allocations that do not fail cost nothing.
 *
 * This file has the functions of libc by which programs get memory. Mappings of libc itself, and raw system calls, get
 * no second try.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stub_memory.h"

enum { OF_MALLOC = 256 << 10 }; /* bytes that malloc(3) may map beyond its argument */

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
} libc;

/* Of any allocator of this process. The loader calls these functions before any constructor has run. */
#define NEXT(name) (libc.name ? libc.name : (*(void **)&libc.name = dlsym(RTLD_NEXT, #name), libc.name))

void room_prepare(void)
{
    (void)NEXT(malloc);
    (void)NEXT(calloc);
    (void)NEXT(realloc);
    (void)NEXT(memalign);
    (void)NEXT(posix_memalign);
    (void)NEXT(pthread_create);
}

bool room_for(uint64_t size, enum room kind)
{
    return config.flags & CONFIG_ASKS_FOR_ROOM && ask_between(CALL_ROOM, (const uint64_t[6]){size, kind}) == 0;
}

/* Whether to call malloc(3) again. */
static bool helps(size_t size)
{
    int error = errno;
    bool there_is_room = size <= PTRDIFF_MAX && room_for((uint64_t)size + OF_MALLOC, FOR_USE);
    errno = error;
    return there_is_room;
}

void *libc_malloc(size_t size)
{
    void *made = NEXT(malloc)(size);
    return made || !helps(size) ? made : libc.malloc(size);
}

PUBLIC void *calloc(size_t count, size_t size)
{
    size_t all;
    void *made = NEXT(calloc)(count, size);
    return made || __builtin_mul_overflow(count, size, &all) || !helps(all) ? made : libc.calloc(count, size);
}

PUBLIC void *realloc(void *old, size_t size)
{
    void *made = NEXT(realloc)(old, size);
    return made || !size || !helps(size) ? made : libc.realloc(old, size);
}

PUBLIC void *memalign(size_t alignment, size_t size)
{
    void *made = NEXT(memalign)(alignment, size);
    return made || !helps(size + alignment) ? made : libc.memalign(alignment, size);
}

PUBLIC void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

PUBLIC int posix_memalign(void **made, size_t alignment, size_t size)
{
    int error = NEXT(posix_memalign)(made, alignment, size);
    return error == ENOMEM && helps(size + alignment) ? libc.posix_memalign(made, alignment, size) : error;
}

/* Memory that may be used only after another call, or for which no swap is set aside, is a reservation (mmap(2)). */
static enum room kind_of(int protection, int flags)
{
    if (protection & PROT_EXEC)
        return CODE;
    return protection == PROT_NONE || flags & MAP_NORESERVE ? RESERVED : FOR_USE;
}

PUBLIC void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t at)
{
    long result = KERNEL(SYS_mmap, address, size, protection, flags, fd, at); /* mappings of files trap */
    if (result == ERROR(ENOMEM) && flags & MAP_ANONYMOUS && room_for(size, kind_of(protection, flags)))
        result = KERNEL(SYS_mmap, address, size, protection, flags, fd, at);
    if (result >= 0 || result < -4095)
        return (void *)result;
    errno = (int)-result;
    return MAP_FAILED;
}
__asm__(".globl mmap64\n\t.set mmap64, mmap");

/* MADV_FREE: pages that the kernel may free when it needs them would count as used until then. They are freed now. */
long give_back(uint64_t address, uint64_t size) { return KERNEL(SYS_madvise, address, size, MADV_DONTNEED); }

PUBLIC int madvise(void *address, size_t size, int advice)
{
    bool is_free = advice == MADV_FREE;
    long result = is_free ? give_back((uint64_t)address, size) : KERNEL(SYS_madvise, address, size, advice);
    if (result >= 0)
        return 0;
    errno = (int)-result;
    return -1;
}

/* A thread's stack, which libc maps: little of it is used. */
PUBLIC int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*begin)(void *), void *argument)
{
    size_t stack = THREAD_STACK;
    int error = NEXT(pthread_create)(thread, attributes, begin, argument);
    if (error != EAGAIN)
        return error;
    if (attributes)
        pthread_attr_getstacksize(attributes, &stack);
    return room_for((uint64_t)stack + OF_MALLOC, RESERVED) ? libc.pthread_create(thread, attributes, begin, argument) : error;
}

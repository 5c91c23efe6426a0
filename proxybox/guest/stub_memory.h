/* The memory of the process, and of the interpreter's objects. */
#ifndef PROXYBOX_STUB_MEMORY_H
#define PROXYBOX_STUB_MEMORY_H

#include "stub_answers.h"

/* stub_huge.c: before the seal. use_huge_pages: for a zygote. room_on_huge_pages: readable and writable memory, which
 * begins on a huge page; 0 where there is none. */
void use_huge_pages(void);
uint64_t room_on_huge_pages(uint64_t size);

/* stub_room.c: whether there is room for an allocation that has failed with ENOMEM, so that it should be repeated.
 * room_prepare is called before the interpreter's `main`. */
void room_prepare(void);
bool room_for(uint64_t size, enum room kind);
void *libc_malloc(size_t size);
long give_back(uint64_t address, uint64_t size); /* pages, to the kernel */

/* stub_nursery.c: nursery_prepare is called before the seal, and after the memory was limited. */
void nursery_prepare(char **environment);

/* stub_recursion.c: Python source that runs when the interpreter has started. */
extern const char make_recursion[];

/* stub_collect.c: makes PyPy collect garbage. collecting_begin: the interpreter has started, so `collecting_prepare` is
 * to be called after the next OS call. collecting_helps: whether PyPy has collected garbage, and so has closed files
 * without references. */
void collecting_begin(void);
extern bool collecting_is_due;
void collecting_prepare(void);
bool collecting_helps(void);
bool python_is_free(void); /* whether PyPy can run source now, in this thread */
void collecting_closed(void); /* a file was closed */
bool collecting_has_closed(void); /* in the last collection of this thread */

/* stub_memory.c: file mappings are emulated by anonymous memory that the stub fills, but for files that never change, where
 * the kernel can ask the controller about a mapping of one (can_map_libraries). */
long emulate_mmap(const uint64_t args[6]);
long emulate_munmap(const uint64_t args[6]);
long emulate_mremap(const uint64_t args[6]);
long emulate_msync(const uint64_t args[6]);
void write_back_all(void);
/* A round trip for a call on a file. The guest's changes in mappings of the file are written back before it, and bytes
 * that the call writes become visible in the mappings. */
long coherent_trip(long number, const uint64_t args[6]);

#endif

/* The end of a zygote's copy. libc's exit(3) calls what was registered with atexit(3), and the destructors of all libraries.
 * Those of the interpreter's own libraries only free memory, and touch some 30 pages that the copy shares with its
 * zygote. A copy skips them: its streams are flushed, and it ends.
 *
 * A copy ends as usual where a library was loaded that the interpreter does not start with, in the zygote or later, and
 * where there were more threads: one may hold the lock of a stream.
 *
 * This runs in no handler of a signal, but as a part of exit(3), and so may call libc.
 */
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stub_start.h"

static int take_count(struct dl_phdr_info *info, size_t size, void *count)
{
    (void)size;
    *(unsigned long long *)count = info->dlpi_adds;
    return 1;
}

/* How many libraries have ever been loaded. */
static unsigned long long loaded(void)
{
    unsigned long long count = 0;
    dl_iterate_phdr(take_count, &count);
    return count;
}

static unsigned long long at_start;

void end_prepare(void) { at_start = loaded(); }

static void end_at_once(int status, void *nothing)
{
    (void)nothing;
    if (has_had_threads || loaded() != at_start)
        return;
    fflush(NULL);
    _exit(status);
}

PUBLIC void proxybox_end_at_once(void);
PUBLIC void proxybox_end_at_once(void)
{
    on_exit(end_at_once, NULL); /* before everything that was registered earlier */
}

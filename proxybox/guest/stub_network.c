/* A box has no network interfaces. libc would read them through a socket; that is refused, and PyPy does not handle the
 * refusal. */
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>

#include "stub_start.h"

PUBLIC struct if_nameindex *if_nameindex(void)
{
    return calloc(1, sizeof(struct if_nameindex)); /* the entry that ends a list; if_freenameindex frees it */
}

PUBLIC unsigned if_nametoindex(const char *name)
{
    (void)name;
    errno = ENODEV;
    return 0;
}

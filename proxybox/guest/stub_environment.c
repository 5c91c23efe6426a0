/* getenv(3), of which PyPy's garbage collector asks how large it may be, before any program runs.
 *
 * The nursery is the policy's, and not the processor's cache, which would be told to the guest. It stands in no
 * environment that a program sees. What a policy's own variables say comes first. PYPY_GC_MIN goes with it: by itself it
 * would be eight nurseries, all of which could be garbage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stub.h"

__attribute__((visibility("default"))) char *getenv(const char *name)
{
    static char nursery[24];
    size_t size = strlen(name);
    for (char **each = environ; each && *each; each++)
        if (!strncmp(*each, name, size) && (*each)[size] == '=')
            return *each + size + 1;
    if (!config.nursery || (strcmp(name, "PYPY_GC_NURSERY") && strcmp(name, "PYPY_GC_MIN")))
        return NULL;
    snprintf(nursery, sizeof nursery, "%llu", (unsigned long long)config.nursery);
    return nursery;
}

/* Replaces getenv(3), with which PyPy's garbage collector reads its sizes before any program runs.
 *
 * The policy sets the size of the nursery. PyPy would otherwise take it from the processor's cache, which would tell
 * the guest about the processor. The value is in no environment that a program can see. The policy's own environment
 * variables come first. PYPY_GC_MIN gets the same value: its default is eight nurseries, all of which could be
 * garbage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stub.h"

char *variable(char **environment, const char *name)
{
    size_t size = strlen(name);
    for (char **each = environment; each && *each; each++)
        if (!strncmp(*each, name, size) && (*each)[size] == '=')
            return *each + size + 1;
    return NULL;
}

PUBLIC char *getenv(const char *name)
{
    static char nursery[24];
    char *own = variable(environ, name);
    if (own)
        return own;
    nursery_asked(name);
    if (!config.nursery || (strcmp(name, "PYPY_GC_NURSERY") && strcmp(name, "PYPY_GC_MIN")))
        return NULL;
    snprintf(nursery, sizeof nursery, "%llu", (unsigned long long)config.nursery);
    return nursery;
}

/* Removes data of the launch from the guest's memory that the guest must not see: launch variables, host ids, host
 * paths. */
#include <elf.h>
#include <string.h>

#include "stub_start.h"

static const char *const launch_variables[] = {"LD_PRELOAD=", "GLIBC_TUNABLES=", "MALLOC_ARENA_MAX="};

static bool is_launch_variable(const char *entry)
{
    for (size_t i = 0; i < sizeof launch_variables / sizeof *launch_variables; i++)
        if (!strncmp(entry, launch_variables[i], strlen(launch_variables[i])))
            return true;
    return false;
}

static void hide_auxiliary(Elf64_auxv_t *entry)
{
    for (; entry->a_type != AT_NULL; entry++) {
        if (entry->a_type == AT_UID || entry->a_type == AT_EUID)
            entry->a_un.a_val = config.uid;
        if (entry->a_type == AT_GID || entry->a_type == AT_EGID)
            entry->a_un.a_val = config.gid;
    }
}

/* glibc keeps the main thread's real id in its thread descriptor; in the box the thread has another id. */
static void hide_thread_id(void)
{
    int32_t real = (int32_t)KERNEL(SYS_gettid);
    char *descriptor = thread_pointer();
    for (size_t at = DESCRIPTOR_IDS; at < DESCRIPTOR_SIZE; at += sizeof real)
        if (!memcmp(descriptor + at, &real, sizeof real)) {
            memcpy(descriptor + at, &config.pid, sizeof config.pid);
            return;
        }
}

void hide_launch(char **environment)
{
    char **kept = environment, **entry = environment;
    for (; *entry; entry++) {
        if (is_launch_variable(*entry))
            memset(*entry, 0, strlen(*entry));
        else
            *kept++ = *entry;
    }
    hide_auxiliary((Elf64_auxv_t *)(entry + 1));
    for (; kept < entry; kept++)
        *kept = NULL;
    hide_thread_id();
}

/* The loader, the kernel's strings on the stack and PyPy's data may all hold a path that begins with `host`. It is
 * replaced in place by `visible`, which is not longer, and the rest of the string moves up. */
static void replace_in(char *from, char *to, const char *host, const char *visible)
{
    size_t host_size = strlen(host), visible_size = strlen(visible);
    for (char *at = from; at + host_size <= to; at++) {
        at = memchr(at, host[0], (size_t)(to - at) - host_size + 1);
        if (!at)
            return;
        if (memcmp(at, host, host_size) || at == host)
            continue;
        size_t rest = strnlen(at + host_size, (size_t)(to - at) - host_size);
        memcpy(at, visible, visible_size);
        memmove(at + visible_size, at + host_size, rest);
        memset(at + visible_size + rest, 0, host_size - visible_size);
    }
}

struct pairs {
    char *text;
    size_t size;
};

/* Mappings of files whose own path contains `host` hold RPython strings, and RPython keeps each string's length and
 * hash beside it: they are not changed in a guest that marshals its own calls. The path at which that guest was
 * translated is not from the launch. */
static bool is_left_alone(const struct mapping *map, const char *host)
{
    return (config.flags & CONFIG_SEAL_ONLY) && strstr(map->name, host);
}

static bool hide_in(const struct mapping *map, void *context)
{
    const struct pairs *pairs = context;
    const char *end = pairs->text + pairs->size;
    for (char *host = pairs->text; map->is_plain_memory && host < end;) {
        char *visible = host + strlen(host) + 1;
        if (visible >= end)
            break;
        if (strlen(visible) <= strlen(host) && !is_left_alone(map, host))
            replace_in((char *)map->from, (char *)map->to, host, visible);
        host = visible + strlen(visible) + 1;
    }
    return true;
}

void hide_paths(char *text, size_t size)
{
    struct pairs pairs = {text, size};
    if (size < 2 || text[size - 1])
        return;
    each_mapping(hide_in, &pairs);
    memset(text, 0, size);
}

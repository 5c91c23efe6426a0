/* What the launch left in the guest's memory and the guest shall not see: launch variables, host ids, host paths. */
#include <elf.h>
#include <string.h>

#include "stub.h"

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

/* glibc keeps the main thread's id in its thread descriptor; the box has an id of its own. */
static void hide_thread_id(void)
{
    enum { DESCRIPTOR = 2304 };
    int32_t real = (int32_t)KERNEL(SYS_gettid);
    char *descriptor;
    __asm__("mov %%fs:0, %0" : "=r"(descriptor));
    for (size_t at = 704; at < DESCRIPTOR; at += sizeof real)
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

/* The loader, the kernel's strings on the stack and PyPy's data may all hold a path that begins with `host`. In
 * place, `visible`, which is not longer, takes its turn and the rest of the string moves up. */
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

static uint64_t hexadecimal(char **at)
{
    uint64_t value = 0;
    for (; (**at >= '0' && **at <= '9') || (**at >= 'a' && **at <= 'f'); ++*at)
        value = value << 4 | (uint64_t)(**at <= '9' ? **at - '0' : **at - 'a' + 10);
    return value;
}

void hide_paths(char *pairs, size_t size)
{
    static char text[128 * 1024];
    if (size < 2 || pairs[size - 1])
        return;
    long fd = KERNEL(SYS_open, "/proc/self/maps", 0), filled = 0, got;
    while (filled < (long)sizeof text - 1 &&
           (got = KERNEL(SYS_read, fd, text + filled, sizeof text - 1 - (size_t)filled)) > 0)
        filled += got;
    KERNEL(SYS_close, fd);
    text[filled] = 0;
    for (char *line = text; *line;) {
        char *at = line, *end = strchr(line, '\n');
        uint64_t from = hexadecimal(&at), to = (at++, hexadecimal(&at));
        bool is_plain_memory = at[1] == 'r' && at[2] == 'w' && at[4] == 'p';
        line = end ? end + 1 : line + strlen(line);
        if (!is_plain_memory || ((uint64_t)text >= from && (uint64_t)text < to))
            continue;
        for (char *host = pairs; host < pairs + size;) {
            char *visible = host + strlen(host) + 1;
            if (visible >= pairs + size)
                break;
            if (strlen(visible) <= strlen(host))
                replace_in((char *)from, (char *)to, host, visible);
            host = visible + strlen(visible) + 1;
        }
    }
    memset(text, 0, sizeof text);
    memset(pairs, 0, size);
}

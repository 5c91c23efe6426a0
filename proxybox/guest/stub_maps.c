/* This process's own mappings, as /proc/self/maps lists them. For use before the seal only. */
#include <string.h>

#include "stub_ground.h"

static char text[256 * 1024];

static bool read_maps(void)
{
    long fd = KERNEL(SYS_open, "/proc/self/maps", 0), filled = 0, got;
    if (fd < 0)
        return false;
    while (filled < (long)sizeof text - 1 &&
           (got = KERNEL(SYS_read, fd, text + filled, sizeof text - 1 - (size_t)filled)) > 0)
        filled += got;
    KERNEL(SYS_close, fd);
    text[filled] = 0;
    return true;
}

static uint64_t hexadecimal(char **at)
{
    uint64_t value = 0;
    for (; (**at >= '0' && **at <= '9') || (**at >= 'a' && **at <= 'f'); ++*at)
        value = value << 4 | (uint64_t)(**at <= '9' ? **at - '0' : **at - 'a' + 10);
    return value;
}

/* A line is `from-to rwxp offset device inode name`. */
bool each_mapping(bool (*look)(const struct mapping *map, void *context), void *context)
{
    bool done = read_maps();
    for (char *line = text, *next; done && *line; line = next) {
        char *end = strchr(line, '\n'), *at = line;
        next = end ? end + 1 : line + strlen(line);
        if (end)
            *end = 0;
        struct mapping map = {.from = hexadecimal(&at)};
        at++;
        map.to = hexadecimal(&at);
        map.name = at;
        bool is_ours = (uint64_t)text >= map.from && (uint64_t)text < map.to; /* must not change while it is read */
        map.is_plain_memory = !is_ours && !strncmp(at, " rw", 3) && at[4] == 'p';
        done = look(&map, context);
    }
    memset(text, 0, sizeof text);
    return done;
}

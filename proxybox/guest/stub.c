/* The stub: preloaded into pypy3, it seals the process before `main` and carries its OS calls to the controller.
 *
 * `prepare_and_seal` reads as a table of contents. Up to its last step this code is trusted; behind it nothing in
 * this process is.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "stub.h"

struct config config;

static _Noreturn void fail(const char *step, long error)
{
    ASK(CALL_FAILED, -error, 0, 0, 0, 0, 0);
    write(CONTROL_FD, step, strlen(step));
    for (;;)
        KERNEL(SYS_exit_group, 125, ROUTE);
}

static char hide[MAX_HIDE];

/* The configuration comes first on the main channel, once the controller knows whether it has a listener. */
static void read_config(void)
{
    struct call_roles row;
    if (!wire_read_exactly(FIRST_CHANNEL_FD, &config, sizeof config) || config.magic != CONFIG_MAGIC ||
        config.channels < 1 || config.channels > MAX_CHANNELS || config.hide > MAX_HIDE || config.rows > MAX_ROWS)
        fail("configuration", ERROR(EPROTO));
    for (uint32_t i = 0; i < config.rows; i++) {
        if (!wire_read_exactly(FIRST_CHANNEL_FD, &row, sizeof row))
            fail("configuration", ERROR(EPROTO));
        wire_learn(&row);
    }
    if (!wire_read_exactly(FIRST_CHANNEL_FD, hide, config.hide))
        fail("configuration", ERROR(EPROTO));
}

/* Bytes of address space in use, the first number in /proc/self/statm. */
static uint64_t address_space(void)
{
    char text[64] = {0};
    uint64_t pages = 0;
    long fd = KERNEL(SYS_open, "/proc/self/statm", O_RDONLY);
    if (fd < 0 || KERNEL(SYS_read, fd, text, sizeof text - 1) <= 0)
        fail("/proc/self/statm", fd < 0 ? fd : ERROR(EIO));
    KERNEL(SYS_close, fd);
    for (char *digit = text; *digit >= '0' && *digit <= '9'; digit++)
        pages = pages * 10 + (uint64_t)(*digit - '0');
    return pages * 4096;
}

/* The limit counts what the program gets on top of the interpreter as it stands; its value in all. */
static uint64_t limit_memory(void)
{
    uint64_t limit = address_space() + config.memory;
    struct rlimit space = {limit, limit};
    if (config.memory && setrlimit(RLIMIT_AS, &space) < 0)
        fail("memory limit", ERROR(errno));
    return config.memory ? limit : 0;
}

static void close_descriptors(void)
{
    KERNEL(SYS_close_range, FIRST_CHANNEL_FD + 2, ~0u, 0);
    KERNEL(SYS_close_range, 0, FIRST_CHANNEL_FD - 1, 0);
}

__attribute__((constructor)) static void prepare_and_seal(int argc, char **argv, char **environment)
{
    (void)argc;
    (void)argv;
    read_config();
    if (!clocks_cover())
        fail("clocks", ERROR(ENOTSUP));
    hide_launch(environment);
    hide_paths(hide, config.hide);
    uint64_t limit = limit_memory();
    signals_install();
    close_descriptors();
    /* The controller looks at this process from outside and lets it go on, or ends it. */
    if (ASK(CALL_HELLO, config.channels, limit) != 0)
        fail("inspection", ERROR(EPERM));
    if (KERNEL(SYS_prctl, PR_SET_DUMPABLE, 0) < 0)
        fail("dumpable", ERROR(EPERM));
    long sealed = seal_filter();
    if (sealed < 0)
        fail("seccomp", sealed);
}

/* The stub: preloaded into pypy3, it seals the process before `main` and carries its OS calls to the controller.
 *
 * `prepare_and_seal` lists all the steps in order. This code is trusted until its last step; after that nothing in this
 * process is trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stub_start.h"

static _Noreturn void fail(const char *step, long error)
{
    dprintf(CONTROL_FD, "%s: %s", step, strerror((int)-error)); /* until the descriptors are closed; see launch.py */
    ASK(CALL_FAILED, -error, 0, 0, 0, 0, 0);
    for (;;)
        KERNEL(SYS_exit_group, 125, ROUTE);
}

static char hide[MAX_HIDE];

/* The configuration comes first on the main channel. */
static void read_config(void)
{
    struct call_roles row;
    if (!wire_read_exactly(FIRST_CHANNEL_FD, &config, sizeof config) || config.magic != CONFIG_MAGIC ||
        config.hide > MAX_HIDE || config.outside_proc > MAX_OUTSIDE_PROC || config.rows > MAX_ROWS ||
        config.listener > MAX_FILTER)
        fail("configuration", ERROR(EPROTO));
    for (uint32_t i = 0; i < config.rows; i++) {
        if (!wire_read_exactly(FIRST_CHANNEL_FD, &row, sizeof row) || !wire_learn(&row))
            fail("configuration", ERROR(EPROTO));
    }
    if (!wire_read_exactly(FIRST_CHANNEL_FD, hide, config.hide) ||
        !wire_read_exactly(FIRST_CHANNEL_FD, outside_proc, config.outside_proc) ||
        (config.outside_proc && outside_proc[config.outside_proc - 1]) ||
        !wire_read_exactly(FIRST_CHANNEL_FD, filter, config.listener * sizeof *filter))
        fail("configuration", ERROR(EPROTO));
}

/* The controller counts threads: the kernel notifies it through this listener of each clone with THREAD_FLAGS, and of
 * each mapping of a library. Without a listener (before Linux 5.9, or where an outer sandbox has taken it) the
 * controller sends a filter that allows neither. */
static void give_listener(void)
{
    if (!config.listener)
        return;
    int listener = (int)install_filter(config.listener, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    char byte = listener < 0 ? 'n' : 'l', space[CMSG_SPACE(sizeof listener)] = {0};
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (listener >= 0) {
        message.msg_control = space;
        message.msg_controllen = sizeof space;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof listener);
        memcpy(CMSG_DATA(head), &listener, sizeof listener);
    }
    long sent = KERNEL(SYS_sendmsg, CONTROL_FD, &message, 0);
    if (sent < 0)
        fail("listener", sent);
    can_map_libraries = listener >= 0;
}

/* Bytes of address space in use: the first number in /proc/self/statm. */
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

/* The soft RLIMIT_AS, or 0 for no limit. It is the space that the interpreter uses already plus the policy's memory.
 * The controller may raise it up to the hard one (process/memory.py); this process cannot, after the seal. */
static uint64_t limit_memory(void)
{
    uint64_t limit = address_space() + config.memory;
    uint64_t most = limit + (config.flags & CONFIG_ASKS_FOR_ROOM ? MOST_ROOM : 0);
    struct rlimit space;
    if (!config.memory)
        return 0;
    if (getrlimit(RLIMIT_AS, &space) < 0)
        fail("memory limit", ERROR(errno));
    space.rlim_cur = limit;
    if (space.rlim_max > most || space.rlim_max < limit) /* otherwise it is the controller's own */
        space.rlim_max = space.rlim_max > most ? most : limit;
    if (setrlimit(RLIMIT_AS, &space) < 0)
        fail("memory limit", ERROR(errno));
    return limit;
}

/* Without this, glibc would make every thread's stack as large as the main thread's limit. */
static void limit_stacks(void)
{
    pthread_attr_t usual;
    int error = pthread_attr_init(&usual);
    if (!error)
        error = pthread_attr_setstacksize(&usual, THREAD_STACK);
    if (!error)
        error = pthread_setattr_default_np(&usual);
    if (error)
        fail("stack size", ERROR(error));
}

/* The kernel gives each process 16 random bytes (getauxval(3), AT_RANDOM), which libc has already used. In a replay
 * they would differ from those of the recorded run. */
static void forget_random_bytes(void)
{
    char *bytes = (char *)getauxval(AT_RANDOM);
    if (bytes)
        memset(bytes, 0, 16);
}

static void close_descriptors(void)
{
    if (KERNEL(SYS_close_range, FIRST_CHANNEL_FD + 2, ~0u, 0) < 0) /* since Linux 5.9, and some filters refuse it */
        for (int fd = FIRST_CHANNEL_FD + 2; fd < MANY_DESCRIPTORS; fd++)
            KERNEL(SYS_close, fd);
    if (config.flags & CONFIG_SEAL_ONLY)
        return;
    for (int fd = 0; fd < FIRST_CHANNEL_FD; fd++)
        KERNEL(SYS_close, fd);
}

/* For a guest that marshals its own calls: the channel becomes its standard input and output. Its standard error stays
 * the control socket: messages about a fatal error go there, as start errors do. */
static void take_standard_streams(void)
{
    if (KERNEL(SYS_dup2, FIRST_CHANNEL_FD, 0) < 0 || KERNEL(SYS_dup2, FIRST_CHANNEL_FD + 1, 1) < 0)
        fail("standard streams", ERROR(EMFILE));
}

__attribute__((constructor)) static void prepare_and_seal(int argc, char **argv, char **environment)
{
    (void)argc;
    (void)argv;
    long covered;
    when_inspected = inspect;
    read_config();
    give_listener();
    if (config.flags & CONFIG_HUGE_PAGES)
        use_huge_pages();
    if (!clocks_cover())
        fail("clocks", ERROR(ENOTSUP));
    if ((covered = counter_covers()) < 0)
        fail("counter", covered);
    hide_launch(environment);
    if (config.flags & CONFIG_SEAL_ONLY)
        load_locale();
    hide_paths(hide, config.hide);
    limit_stacks();
    if (config.flags & CONFIG_SERIAL)
        forget_random_bytes();
    uint64_t limit = limit_memory();
    nursery_prepare(environment);
    if (config.flags & CONFIG_SEAL_ONLY)
        signals_install_sealed();
    else
        signals_install(on_sigsys);
    int root = config.flags & CONFIG_EMPTY_ROOT ? enter_empty_root() : 0;
    int landlock = config.flags & CONFIG_LANDLOCK ? enter_landlock() : 0;
    drop_capabilities();
    close_descriptors();
    if (config.flags & CONFIG_SEAL_ONLY)
        take_standard_streams();
    direct_prepare();
    end_prepare();
    yield_prepare();
    room_prepare();
    /* The controller inspects this process from outside, and then sends its filter or ends it. */
    long length = ASK(CALL_HELLO, limit, filter, MAX_FILTER, root, landlock, &settings);
    if (length <= 0 || length > MAX_FILTER)
        fail("inspection", ERROR(EPERM));
    if (KERNEL(SYS_prctl, PR_SET_DUMPABLE, 0) < 0)
        fail("dumpable", ERROR(EPERM));
    long sealed = install_filter(length, 0);
    if (sealed < 0)
        fail("seccomp", sealed);
    /* This is a system call and not ASK, because the controller receives it only if the filter traps it. The controller
     * inspects the process once more before it answers. */
    if (KERNEL(CALL_SEALED) != SEALED_ANSWER)
        fail("seccomp", ERROR(ENOSYS));
    is_sealed = !(config.flags & CONFIG_SEAL_ONLY);
}

/* The launcher: between the controller's spawn and the interpreter's exec, everything that a process can give up
 * by itself. It runs before any untrusted code exists and says on the control socket what it could not do.
 *
 * usage: launcher PARENT UID GID NICE CPU CPU_SECONDS FLAGS PROGRAM ARGV0 [ARG...]
 * UID, GID: -1 keeps them. CPU: -1 leaves the affinity. CPU_SECONDS: 0 for none. FLAGS, descriptors: see wire.h.
 *
 *     controller ── launcher ── unshares namespaces, reports, ends
 *              ├── init        first process of the pid namespace: waits, and takes all with it when it is killed
 *              └── guest       its sibling: executes the interpreter
 *
 * Where namespaces are not to be had, the launcher itself becomes the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wire.h"

static _Noreturn void fail(const char *step)
{
    dprintf(CONTROL_FD, "%s: %s\n", step, strerror(errno));
    _exit(125);
}

static void must(long result, const char *step)
{
    if (result < 0)
        fail(step);
}

/* The control socket tells whether it still lives: a parent outside of the pid namespace has no number in it. */
static void die_with_controller(void)
{
    char byte;
    must(prctl(PR_SET_PDEATHSIG, SIGKILL), "parent death signal");
    if (recv(CONTROL_FD, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        _exit(125);
}

static void drop_identity(long uid, long gid)
{
    if (uid < 0)
        return;
    must(setgroups(0, NULL), "setgroups");
    must(setresgid((gid_t)gid, (gid_t)gid, (gid_t)gid), "setresgid");
    must(setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid), "setresuid");
}

/* The bounding set needs CAP_SETPCAP and goes first; without it, no_new_privs keeps exec from giving anything. */
static void drop_bounding_set(void)
{
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        prctl(PR_CAPBSET_DROP, capability);
}

static void set_capabilities(uint32_t permitted, uint32_t inheritable)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{permitted, permitted, inheritable}, {0, 0, 0}};
    must(syscall(SYS_capset, &header, sets), "capset");
}

static void drop_capabilities(void)
{
    drop_bounding_set();
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    set_capabilities(0, 0);
}

/* One capability outlasts the exec (capabilities(7), ambient). What is not in the bounding set cannot be made
 * inheritable, and emptying that set takes CAP_SETPCAP. */
static void keep_capability(int kept)
{
    set_capabilities(1u << kept | 1u << CAP_SETPCAP, 1u << kept);
    drop_bounding_set();
    set_capabilities(1u << kept, 1u << kept);
    must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept, 0, 0), "ambient capability");
}

static void limit(int resource, rlim_t value)
{
    struct rlimit both = {value, value}, now;
    if (getrlimit(resource, &now) == 0 && now.rlim_max < value)
        both.rlim_cur = both.rlim_max = now.rlim_max;
    must(setrlimit(resource, &both), "setrlimit");
}

static void set_limits(rlim_t cpu_seconds)
{
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_MEMLOCK, 0);
    limit(RLIMIT_MSGQUEUE, 0);
    limit(RLIMIT_STACK, MAIN_STACK);
    limit(RLIMIT_NOFILE, FIRST_CHANNEL_FD + 2 * MAX_CHANNELS);
    if (cpu_seconds)
        limit(RLIMIT_CPU, cpu_seconds);
}

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t written = fd < 0 ? -1 : write(fd, text, strlen(text));
    int error = written < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return error;
}

/* Guests of a controller with real-time priority, or one that the kernel spares when memory runs out, are ordinary. */
static void lower_priority(int nice_value, int cpu)
{
    cpu_set_t one;
    struct sched_param ordinary = {0};
    write_text("/proc/self/oom_score_adj", "1000");
    must(sched_setscheduler(0, SCHED_OTHER, &ordinary), "sched_setscheduler");
    must(setpriority(PRIO_PROCESS, 0, nice_value), "setpriority");
    CPU_ZERO(&one);
    if (cpu >= 0) {
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one); /* for speed alone: a host that refuses is served too */
    }
}

static int map_own_id(const char *path, unsigned id)
{
    char line[40];
    snprintf(line, sizeof line, "%u %u 1", id, id);
    return write_text(path, line);
}

/* All or none, as a user without privileges: 0 or an errno. The ids stay what they are, and no others exist. A host that
 * lets a user namespace be made and nothing be done in it is met before a pid namespace waits for children. */
static int enter_namespaces(void)
{
    int error;
    unsigned uid = geteuid(), gid = getegid();
    if (unshare(CLONE_NEWUSER) < 0)
        return errno;
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* a change of ids has made these files root's */
    if ((error = map_own_id("/proc/self/uid_map", uid)) || (error = write_text("/proc/self/setgroups", "deny")) ||
        (error = map_own_id("/proc/self/gid_map", gid)))
        return error;
    if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
        return errno;
    write_text("/proc/sys/user/max_user_namespaces", "0"); /* and none below this one, where that can be said: in a
                                                              container /proc/sys may be read-only */
    return 0;
}

static int error_of(long result) { return result < 0 ? errno : 0; }

/* Of the several speculation controls, the one that protects others from the guest: what the guest could read of its
 * own memory holds no secret. */
static int control_speculation(void)
{
    return error_of(prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_FORCE_DISABLE, 0, 0));
}

/* core-scheduling.rst: a cookie of its own, so that no other process runs on the sibling of its core meanwhile. */
static int schedule_alone(void) { return error_of(prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, 1, 0)); }

/* close_range(2) is of Linux 5.9, and some containers' filters refuse it. */
static void close_all(void)
{
    if (syscall(SYS_close_range, 0u, ~0u, 0u) < 0)
        for (int fd = 0; fd < MANY_DESCRIPTORS; fd++)
            close(fd);
}

/* The first process of the pid namespace. Whoever kills it kills all that is in there. */
static _Noreturn void be_init(void)
{
    die_with_controller();
    drop_capabilities();
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    must(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable");
    signal(SIGCHLD, SIG_IGN);
    close_all(); /* the launcher sees that its pipe has ended, and so that all this is done */
    for (;;)
        pause();
}

struct start {
    char **program; /* and its arguments */
    struct launch_report report;
};

/* The report goes first: behind it the controller knows all processes that there are, whatever fails. */
static int be_guest(void *argument)
{
    const struct start *start = argument;
    must(write(CONTROL_FD, &start->report, sizeof start->report), "report");
    die_with_controller();
    if (start->report.namespaces == 0)
        keep_capability(CAP_SYS_ADMIN); /* over the new user namespace, until the stub has emptied the root */
    else
        drop_capabilities();
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    execv(start->program[0], start->program + 1);
    fail(start->program[0]);
}

/* Two siblings, both the controller's own children. The guest borrows this memory until it executes. This process ends
 * when the init has given up all that it had, and the controller waits for that end. */
static _Noreturn void become_two(struct start *start)
{
    static char stack[64 * 1024] __attribute__((aligned(16)));
    char byte;
    int ready[2];
    must(pipe2(ready, O_CLOEXEC), "pipe2");
    pid_t init = (pid_t)syscall(SYS_clone, CLONE_PARENT, 0, 0, 0, 0);
    must(init, "the init process");
    if (init == 0)
        be_init();
    start->report.init = init;
    if (clone(be_guest, stack + sizeof stack, CLONE_PARENT | CLONE_PARENT_SETTID | CLONE_VM | CLONE_VFORK, start,
              &start->report.guest) < 0) {
        int error = errno;
        write(CONTROL_FD, &start->report, sizeof start->report);
        errno = error;
        fail("the guest's process");
    }
    close(ready[1]);
    while (read(ready[0], &byte, 1) < 0 && errno == EINTR)
        ;
    _exit(0);
}

int main(int argc, char **argv)
{
    struct start start = {.report = {REPORT_MAGIC, 0, 0, NOT_ASKED, NOT_ASKED, NOT_ASKED, NOT_ASKED}};
    if (argc < 10)
        return 2;
    pid_t parent = atoi(argv[1]);
    long uid = atol(argv[2]), gid = atol(argv[3]);
    int flags = atoi(argv[7]);
    start.program = argv + 8;
    die_with_controller();
    if (getppid() != parent) {
        errno = ESRCH;
        fail("the controller has ended");
    }
    umask(077);
    must(chdir("/"), "chdir");
    set_limits((rlim_t)atol(argv[6]));
    lower_priority(atoi(argv[4]), atoi(argv[5]));
    if (flags & LAUNCH_SAME_ADDRESSES)
        start.report.same_addresses = error_of(personality(ADDR_NO_RANDOMIZE));
    if (flags & LAUNCH_SPECULATION)
        start.report.speculation = control_speculation();
    if (flags & LAUNCH_CORE_SCHEDULING)
        start.report.core_scheduling = schedule_alone();
    drop_bounding_set();
    drop_identity(uid, gid);
    die_with_controller(); /* a change of ids has cleared it */
    setenv("LD_PRELOAD", "/proc/self/fd/5", 1);
    setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
    setenv("MALLOC_ARENA_MAX", "1", 1);
    if (flags & LAUNCH_NAMESPACES)
        start.report.namespaces = enter_namespaces();
    if (start.report.namespaces == 0) {
        /* Pending signals are counted for a user in a user namespace, and once more for that user outside, against the
         * limit that whoever made the namespace had: so this is set behind it, and counts no other's. Without a
         * namespace all boxes of a user have one count, which a low limit would let a few of them use up. */
        limit(RLIMIT_SIGPENDING, MAX_PENDING_SIGNALS);
        become_two(&start);
    }
    return be_guest(&start);
}

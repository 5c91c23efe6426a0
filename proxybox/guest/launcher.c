/* The launcher runs between the controller's spawn and the interpreter's exec, and drops all privileges that a process
 * can drop by itself. It runs before any untrusted code exists, and reports failed steps on the control socket.
 *
 *     usage: launcher PARENT UID GID NICE CPU CPU_SECONDS FLAGS PROGRAM ARGV0 [ARG...]
 *
 * UID, GID: -1 keeps them. CPU: -1 leaves the affinity. CPU_SECONDS: 0 for no limit. FLAGS, descriptors: see wire.h.
 *
 *     controller ── launcher ── unshares namespaces, reports, ends
 *              ├── init        first process of the pid namespace: waits; when it is killed, all others in it are
 *              └── guest       its sibling: executes the interpreter
 *
 * Where namespaces are not available, the launcher itself becomes the guest.
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

/* Only the control socket shows whether the controller still lives: a parent outside the pid namespace has no process
 * id inside it. */
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

/* Dropping from the bounding set needs CAP_SETPCAP, so this comes first. Without that capability, no_new_privs prevents
 * that exec gives any. */
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

/* One capability survives the exec (capabilities(7), ambient). A capability that is not in the bounding set cannot be
 * made inheritable, and emptying that set needs CAP_SETPCAP. */
static void keep_capability(int kept)
{
    set_capabilities(1u << kept | 1u << CAP_SETPCAP, 1u << kept);
    drop_bounding_set();
    set_capabilities(1u << kept, 1u << kept);
    must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept, 0, 0), "ambient capability");
}

static int error_of(long result) { return result < 0 ? errno : 0; }

static int limit(int resource, rlim_t value)
{
    struct rlimit both = {value, value}, now;
    if (getrlimit(resource, &now) == 0 && now.rlim_max < value)
        both.rlim_cur = both.rlim_max = now.rlim_max;
    return error_of(setrlimit(resource, &both));
}

static void must_limit(int resource, rlim_t value, const char *name)
{
    if ((errno = limit(resource, value)))
        fail(name);
}

/* Sets limits. Returns the errno of a refused limit on which no box depends: the seal lets no guest lock memory or make
 * a message queue. gVisor always refuses some limits. */
static int set_limits(rlim_t cpu_seconds)
{
    must_limit(RLIMIT_CORE, 0, "setrlimit(RLIMIT_CORE)");
    must_limit(RLIMIT_STACK, MAIN_STACK, "setrlimit(RLIMIT_STACK)");
    must_limit(RLIMIT_NOFILE, FIRST_LIBRARY_FD + MAX_CHANNELS, "setrlimit(RLIMIT_NOFILE)");
    if (cpu_seconds)
        must_limit(RLIMIT_CPU, cpu_seconds, "setrlimit(RLIMIT_CPU)");
    int locked = limit(RLIMIT_MEMLOCK, 0), queues = limit(RLIMIT_MSGQUEUE, 0);
    return locked ? locked : queues;
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

/* Gives the guest ordinary scheduling, and makes it the first to be killed when memory runs out, even if the controller
 * has real-time priority or is protected from the out-of-memory killer. */
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
        sched_setaffinity(0, sizeof one, &one); /* for speed only: on a host that refuses this the guest runs as well */
    }
}

static int map_own_id(const char *path, unsigned id)
{
    char line[40];
    snprintf(line, sizeof line, "%u %u 1", id, id);
    return write_text(path, line);
}

/* Enters all the namespaces as a user without privileges. Returns 0, or the errno of the step that has failed. The ids stay
 * what they are, and no others are mapped. The user namespace comes first and alone: some hosts allow its creation but
 * no operation in it, and this has to show before a pid namespace exists that waits for children. */
static int enter_namespaces(int32_t *step)
{
    int error;
    unsigned uid = geteuid(), gid = getegid();
    *step = STEP_USER;
    if (unshare(CLONE_NEWUSER) < 0)
        return errno;
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* after the change of ids, the files in /proc/self belong to root */
    *step = STEP_UID_MAP;
    if ((error = map_own_id("/proc/self/uid_map", uid)))
        return error;
    *step = STEP_SETGROUPS;
    if ((error = write_text("/proc/self/setgroups", "deny")))
        return error;
    *step = STEP_GID_MAP;
    if ((error = map_own_id("/proc/self/gid_map", gid)))
        return error;
    *step = STEP_OTHERS;
    if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
        return errno;
    /* Also forbids user namespaces below this one, where that is possible: in a container /proc/sys may be
     * read-only. */
    write_text("/proc/sys/user/max_user_namespaces", "0");
    return 0;
}

/* Of the several speculation controls, this one protects others from the guest. The others protect the guest's own
 * memory, which holds no secret. */
static int control_speculation(void)
{
    return error_of(prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_FORCE_DISABLE, 0, 0));
}

/* core-scheduling.rst: the guest gets a cookie of its own, so that no other process runs on the sibling thread of its
 * core at the same time. */
static int schedule_alone(void) { return error_of(prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, 1, 0)); }

/* close_range(2) exists since Linux 5.9, and some containers' filters refuse it. */
static void close_all(void)
{
    if (syscall(SYS_close_range, 0u, ~0u, 0u) < 0)
        for (int fd = 0; fd < MANY_DESCRIPTORS; fd++)
            close(fd);
}

/* The first process of the pid namespace. When it is killed, the kernel kills all processes in the namespace. */
static _Noreturn void be_init(void)
{
    die_with_controller();
    drop_capabilities();
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    must(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable");
    signal(SIGCHLD, SIG_IGN);
    close_all(); /* this closes the launcher's pipe, by which the launcher notices that all the steps above are done */
    for (;;)
        pause();
}

struct start {
    char **program; /* the path of the program, then its argv */
    struct launch_report report;
};

/* The report is sent first: after it the controller knows all the processes, even if a later step fails. */
static int be_guest(void *argument)
{
    const struct start *start = argument;
    must(write(CONTROL_FD, &start->report, sizeof start->report), "report");
    die_with_controller();
    if (start->report.namespaces == 0)
        keep_capability(CAP_SYS_ADMIN); /* over the new user namespace only, until the stub has emptied the root */
    else
        drop_capabilities();
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    execv(start->program[0], start->program + 1);
    fail(start->program[0]);
}

/* Creates two siblings, both children of the controller itself. The guest borrows this process's memory until its exec.
 * This process ends when the init process has dropped its privileges and descriptors. The controller waits for that
 * end. */
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
    struct start start = {.report = {REPORT_MAGIC, 0, 0, 0, NOT_ASKED, NOT_ASKED, 0, NOT_ASKED, NOT_ASKED}};
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
    start.report.limits = set_limits((rlim_t)atol(argv[6]));
    lower_priority(atoi(argv[4]), atoi(argv[5]));
    if (flags & LAUNCH_SAME_ADDRESSES)
        start.report.same_addresses = error_of(personality(ADDR_NO_RANDOMIZE));
    if (flags & LAUNCH_SPECULATION)
        start.report.speculation = control_speculation();
    if (flags & LAUNCH_CORE_SCHEDULING)
        start.report.core_scheduling = schedule_alone();
    drop_bounding_set();
    drop_identity(uid, gid);
    die_with_controller(); /* a change of ids has cleared the parent death signal */
    setenv("LD_PRELOAD", "/proc/self/fd/5", 1);
    setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
    setenv("MALLOC_ARENA_MAX", "1", 1);
    if (flags & LAUNCH_NAMESPACES)
        start.report.namespaces = enter_namespaces(&start.report.namespace_step);
    if (start.report.namespaces == 0) {
        /* The kernel counts pending signals for a user in a user namespace, and again for the user outside it against
         * the limit of the process that made the namespace. So this limit is set after the namespace is made, and
         * counts the signals of this namespace only. Without a namespace all boxes of a user share one count, and a few
         * boxes could use up a low limit. */
        int signals = limit(RLIMIT_SIGPENDING, MAX_PENDING_SIGNALS);
        start.report.limits = start.report.limits ? start.report.limits : signals;
        become_two(&start);
    }
    return be_guest(&start);
}

/* The launcher: between the controller's spawn and the interpreter's exec, everything that a process can give up
 * by itself. It runs before any untrusted code exists and says on the control socket what it could not do.
 *
 * usage: launcher PARENT UID GID NICE CPU CPU_SECONDS FLAGS PROGRAM ARGV0 [ARG...]
 * UID, GID: -1 keeps them. CPU: -1 leaves the affinity. CPU_SECONDS: 0 for none. Descriptors: see wire.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
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

enum { FLAG_THREADS = 1, FLAG_SAME_ADDRESSES = 2 };

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

static void die_with_parent(pid_t parent)
{
    must(prctl(PR_SET_PDEATHSIG, SIGKILL), "parent death signal");
    if (getppid() != parent) {
        errno = ESRCH;
        fail("the controller has ended");
    }
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

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    must(syscall(SYS_capset, &header, none), "capset");
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
    limit(RLIMIT_SIGPENDING, 256);
    limit(RLIMIT_STACK, 8 << 20);
    limit(RLIMIT_NOFILE, FIRST_CHANNEL_FD + 2 * MAX_CHANNELS);
    if (cpu_seconds)
        limit(RLIMIT_CPU, cpu_seconds);
}


/* Threads are counted by the controller: each clone of the one known kind asks it through this listener. */
static int listen_for_threads(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 7),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THREAD_FLAGS, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ROUTE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void hand_over(int listener)
{
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
    must(sendmsg(CONTROL_FD, &message, 0), "sendmsg");
    if (listener >= 0)
        close(listener);
}

static void lower_priority(int nice_value, int cpu)
{
    cpu_set_t one;
    must(setpriority(PRIO_PROCESS, 0, nice_value), "setpriority");
    CPU_ZERO(&one);
    if (cpu >= 0) {
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one); /* for speed alone: a host that refuses is served too */
    }
}

int main(int argc, char **argv)
{
    if (argc < 10)
        return 2;
    pid_t parent = atoi(argv[1]);
    long uid = atol(argv[2]), gid = atol(argv[3]);
    int flags = atoi(argv[7]);
    die_with_parent(parent);
    umask(077);
    must(chdir("/"), "chdir");
    set_limits((rlim_t)atol(argv[6]));
    lower_priority(atoi(argv[4]), atoi(argv[5]));
    if (flags & FLAG_SAME_ADDRESSES && personality(ADDR_NO_RANDOMIZE) < 0)
        dprintf(CONTROL_FD, "r"); /* reported; the box runs with other addresses each time */
    drop_bounding_set();
    drop_identity(uid, gid);
    drop_capabilities();
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    die_with_parent(parent); /* a change of ids has cleared it */
    if (flags & FLAG_THREADS)
        hand_over(listen_for_threads());
    setenv("LD_PRELOAD", "/proc/self/fd/5", 1);
    setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
    setenv("MALLOC_ARENA_MAX", "1", 1);
    execv(argv[8], argv + 9);
    fail(argv[8]);
}

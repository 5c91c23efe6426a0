/* What both sides of the wire agree on. The controller's copy: controller/header.py; tests/wire/test_header.py compares them.
 *
 * Nothing in this folder is trusted once a guest runs: hostile code can overwrite all of it. What holds then is the
 * filter (controller/seal/filters.py), the controller's parser and its policy.
 */
#ifndef PROXYBOX_WIRE_H
#define PROXYBOX_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* Descriptors at exec: the way back for start errors, the main channel's pipe ends, the stub itself. */
enum { CONTROL_FD = 2, FIRST_CHANNEL_FD = 3, STUB_FD = 5 };

/* Channel k reads replies from descriptor 3+2k and writes requests to 4+2k; channel 0 is the main thread's. */
enum { MAX_CHANNELS = 257 };

#define MAX_PAYLOAD (1u << 20)
#define MAX_PATH 4096u

enum { ABSENT = 0xFFFFFFFF, FAULT = 0xFFFFFFFE, TOO_LONG = 0xFFFFFFFD };
enum { CALL_HELLO = 0x50420001, CALL_FAILED = 0x50420002, CALL_FAULTED = 0x50420003, CALL_SEALED = 0x50420004,
       CALL_BORN = 0x50420005 };

/* The answer to CALL_SEALED, which the stub makes as a system call: no kernel gives it. */
enum { SEALED_ANSWER = 0x5ea1 };

/* Signals that a user namespace may have pending at once: a zygote's copies share one, and the controller sends each
 * of them a few at a time (keeper.py). */
enum { MAX_PENDING_SIGNALS = 1024 };

/* More than a controller is likely to have open, where descriptors must be closed one by one. */
enum { MANY_DESCRIPTORS = 65536 };

/* Bytes that the main thread's stack may grow to, as deep as stub_recursion.c lets a program go, and those of another
 * thread's, where a program does not say. */
enum { MAIN_STACK = 192 << 20, THREAD_STACK = 8 << 20 };

struct request {
    uint32_t size, number;
    uint64_t args[6];
};

struct reply {
    uint32_t size, writes;
    int64_t value;
};

struct __attribute__((packed)) reply_write {
    uint64_t address;
    uint32_t length;
};

enum fetch { FETCH_STRING = 1, FETCH_BUFFER, FETCH_STRUCT, FETCH_SOFT, FETCH_GATHER, FETCH_BITS };

/* How wide the argument is that counts: a C int and an unsigned one are half a register. */
enum length { LENGTH_LONG, LENGTH_INT, LENGTH_UNSIGNED };

struct role {
    uint8_t arg, fetch, length_arg, length_is;
    uint32_t size;
};

struct call_roles {
    uint16_t number, count;
    struct role role[6];
};

/* What the launcher writes on CONTROL_FD when the guest's process exists. guest, init: host process ids, 0 where the
 * launcher itself becomes the guest. The others are 0 for done, else an errno; NOT_ASKED. */
struct launch_report {
    uint32_t magic;
    int32_t guest, init, same_addresses, namespaces, speculation, core_scheduling;
};

enum { REPORT_MAGIC = 0x4c584250, NOT_ASKED = -1 };
enum { LAUNCH_SAME_ADDRESSES = 1, LAUNCH_NAMESPACES = 2, LAUNCH_SPECULATION = 4, LAUNCH_CORE_SCHEDULING = 8 };

/* The first bytes on the main channel, from the controller; these follow: `rows` call_roles, `hide` bytes of
 * NUL-terminated pairs (host path prefix, the path that the guest may see in its place), and `listener` instructions
 * of a filter whose listener the controller wants, 0 for none. The stub answers that on CONTROL_FD. */
struct config {
    uint32_t magic, flags, rows, hide, listener;
    uint32_t pid, uid, gid;
    uint64_t memory, nursery;
};

enum { CONFIG_MAGIC = 0x32584250, MAX_ROWS = 512, MAX_HIDE = 16384, MAX_FILTER = 1024 };
/* SEAL_ONLY: a guest that marshals its calls itself, over descriptors 0 and 1, which are the first channel's then. */
enum { CONFIG_REAL_TIME = 1, CONFIG_EMPTY_ROOT = 2, CONFIG_LANDLOCK = 4, CONFIG_SEAL_ONLY = 8 };

/* HELLO says: RLIMIT_AS or 0; where the filter's instructions shall be stored, and for how many there is room; the
 * errno of the empty root and of Landlock. The answer stores the filter and is its length. */

/* In a register that the kernel ignores, this says that the stub has told the controller already. It routes calls to
 * the right place and protects nothing: the controller counts threads by the listener, whoever sets it. */
#define ROUTE 0x70626f78u

/* The answer to a call on a file that a shared mapping may have changed is WRITE_BACK less that mapping's number: the stub
 * writes back what was stored there, and makes the call again. */
#define WRITE_BACK (-(1ll << 40))

/* The flags of glibc's pthread_create, the one kind of clone that exists in a box. */
#define THREAD_FLAGS 0x3d0f00u

/* What fork(3) of glibc asks for, and the one kind of clone that becomes of it: a child of the controller's own. */
#define FORK_ASKED 0x1200011u
#define FORK_FLAGS 0x8000u

/* The answer to a fork that is granted: the child's process id in the box << 16, and whether the parent asks for the
 * next child at once (a zygote, which never goes on). The parent's next request says in its sixth register what became
 * of the clone. */
enum { FORK_AGAIN = 1 };

/* BORN says: where the filter's instructions shall be stored, for how many there is room, and where this shall be. The
 * answer is the filter's length, 0 for a child that has its own already. cpu: -1 for any. */
struct newborn {
    uint64_t space, cpu_seconds;
    int64_t cpu;
};

/* Shared mappings of virtual files live in the 16 TiB from here, so that the filter can tell their munmap, which writes
 * them back. */
#define SHARED_BASE 0x100000000000ul

#endif

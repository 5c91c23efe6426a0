/* The numbers and structures of the wire, for both sides. The controller has a copy, controller/header.py;
 * tests/wire/test_header.py compares the two.
 *
 * Nothing in this folder is trusted when a guest runs: hostile code can overwrite all of it. Three defences remain
 * then: the filter (controller/seal/filters.py), the controller's parser and its policy.
 */
#ifndef PROXYBOX_WIRE_H
#define PROXYBOX_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* Descriptors at exec: the control socket for start errors, the two pipe ends of the main channel, the stub's own
 * file. */
enum { CONTROL_FD = 2, FIRST_CHANNEL_FD = 3, STUB_FD = 5 };

/* Channel k reads replies from descriptor 3+2k and writes requests to descriptor 4+2k; channel 0 is the main
 * thread's. */
enum { MAX_CHANNELS = 257 };

/* The controller installs a file that the thread of channel k is about to map as descriptor FIRST_LIBRARY_FD + k. */
enum { FIRST_LIBRARY_FD = FIRST_CHANNEL_FD + 2 * MAX_CHANNELS };

#define MAX_PAYLOAD (1u << 20)
#define MAX_PATH 4096u

enum { ABSENT = 0xFFFFFFFF, FAULT = 0xFFFFFFFE, TOO_LONG = 0xFFFFFFFD };
/* The stub's own calls. Their numbers are none of the kernel's, and do not have x32's bit: a filter around the
 * controller may end the process at a number with that bit (systemd's SystemCallArchitectures=native does), but only
 * refuses other unknown numbers. */
enum { OWN_CALLS = 0x20420000, OWN_CALLS_END = OWN_CALLS + 256 };
enum { CALL_HELLO = OWN_CALLS + 1, CALL_FAILED, CALL_FAULTED, CALL_SEALED, CALL_BORN };

/* openat(2) with two more arguments: where to store the file's struct stat and then its content, and a descriptor to be
 * closed first, or NO_DESCRIPTOR. Both are stored if the content never changes and has at most WHOLE_FILE bytes, for
 * which there is room. */
enum { CALL_OPEN = 510, WHOLE_FILE = 256 << 10, NO_DESCRIPTOR = -1 };

/* epoll_wait(2) without a wait. LASTS, more than there can be events, is the answer where nothing is ready, and nothing
 * will be ready unless this process makes a call, or has one under way. */
enum { CALL_LOOK = 514 };
#define LASTS (1ll << 32)

/* stat(2) and lstat(2): path, where to store the status, and flags of fstatat(2). The answer is 1 where the status changes
 * only by calls that make or change something. */
enum { CALL_STAT = 513 };

/* mmap(2), for a stub that can map a file by itself. LIBRARY is the answer where the file never changes: the controller
 * then expects one mmap of this thread's library descriptor, and puts the file there when the kernel asks about that call.
 * mmap needs all six registers, so ROUTE is in the upper half of the descriptor's register, which the kernel
 * ignores. */
enum { CALL_MAP = 512 };
#define LIBRARY (1ll << 41)

/* Sends the readings of clocks that this thread has made (struct clock_ring) where there are too many to wait for its
 * next call. */
enum { CALL_CLOCKS = 509 };
/* The thread with this id, which clone(2) was granted, was not made: the second argument is the error. The next call of the
 * thread that was to make it. */
enum { CALL_NO_THREAD = 508 };
/* An allocation has failed, probably for lack of address space. Arguments: its bytes and its kind. The answer is 0
 * where there is room now, so that the allocation should be repeated (controller/process/memory.py). FOR_USE: memory
 * that will be used. RESERVED: memory of which an unknown part will be used. A_FILE: a file's content. CODE: of a
 * JIT. */
enum { CALL_ROOM = 507 };
#define MOST_ROOM (8ll << 30) /* bytes by which the controller may raise it in all: the hard RLIMIT_AS */
enum room { FOR_USE = 0, RESERVED, A_FILE, CODE };
/* A bit in the number of a request: the request ends with the readings of clocks that the thread has made since its
 * last one: a byte for the clock of each, an int64_t for the time of each, in nanoseconds, and a u16 with their
 * number. */
#define WITH_CLOCKS 0x80000000u /* not a field for flags, which would be sent with each call */

/* The answer to CALL_SEALED. The stub makes CALL_SEALED as a system call, and no kernel returns this value for it. */
enum { SEALED_ANSWER = 0x5ea1 };

/* RLIMIT_SIGPENDING of a guest in a user namespace. The copies of a zygote share one user namespace, and the controller
 * sends each of them only a few signals at a time (controller/process/signalled.py). */
enum { MAX_PENDING_SIGNALS = 1024 };

/* More descriptors than a controller is likely to have open, for hosts where they must be closed one by one. */
enum { MANY_DESCRIPTORS = 65536 };

/* Bytes. MAIN_STACK: the limit of the main thread's stack, which is enough for the recursion that stub_recursion.c
 * allows. THREAD_STACK: the stack of any other thread for which the program sets no size. */
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

/* The width of the argument that holds a length: a C int or unsigned int is half a register. */
enum length { LENGTH_LONG, LENGTH_INT, LENGTH_UNSIGNED };

struct role {
    uint8_t arg, fetch, length_arg, length_is;
    uint32_t size;
};

struct call_roles {
    uint16_t number, count;
    struct role role[6];
};

/* The steps into namespaces, in their order. */
enum { STEP_USER = 0, STEP_UID_MAP, STEP_SETGROUPS, STEP_GID_MAP, STEP_OTHERS };

/* The launcher's report on CONTROL_FD, written when the guest's process exists. guest, init: host process ids, or 0
 * where the launcher itself becomes the guest. namespace_step: the step into namespaces that has failed with the errno
 * `namespaces`. The other fields: 0 for done, an errno, or NOT_ASKED. */
struct launch_report {
    uint32_t magic;
    int32_t guest, init, limits, same_addresses, namespaces, namespace_step, speculation, core_scheduling;
};

enum { REPORT_MAGIC = 0x4c584250, NOT_ASKED = -1 };
enum { LAUNCH_SAME_ADDRESSES = 1, LAUNCH_NAMESPACES = 2, LAUNCH_SPECULATION = 4, LAUNCH_CORE_SCHEDULING = 8 };

/* The first bytes on the main channel, from the controller. After them come `rows` times struct call_roles; `hide`
 * bytes of NUL-terminated pairs (a host path prefix, the path that the guest may see in its place); `outside_proc` bytes of
 * NUL-terminated paths of the box that do not lead into /proc, of which one that ends in a slash stands for all paths
 * below it; and `listener` instructions of a filter. When `listener` is not 0, the controller wants that filter's
 * listener, and the stub answers on CONTROL_FD. */
struct __attribute__((packed)) config {
    uint32_t magic, flags, rows, hide, outside_proc, listener;
    uint32_t pid, uid, gid;
    uint64_t memory, nursery;
};

enum { CONFIG_MAGIC = 0x32584250, MAX_ROWS = 515, MAX_HIDE = 16384, MAX_OUTSIDE_PROC = 1024, MAX_FILTER = 1024 };
/* SEAL_ONLY: the guest marshals its calls itself, over descriptors 0 and 1, which are then the first channel.
 * HOST_CLOCKS: where time is real, it may read the host's clocks. HUGE_PAGES: a zygote, where the kernel gives such
 * pages (stub_huge.c). HUGE_NURSERY: another guest on such a kernel (stub_nursery.c). RECORDED: its calls are recorded
 * or replayed, and time is real. SERIAL: the controller lets one of its threads run at a time, and has its futexes.
 * ASKS_FOR_ROOM: it makes CALL_ROOM. */
enum { CONFIG_REAL_TIME = 1, CONFIG_EMPTY_ROOT = 2, CONFIG_LANDLOCK = 4, CONFIG_SEAL_ONLY = 8, CONFIG_HOST_CLOCKS = 16,
       CONFIG_HUGE_PAGES = 32, CONFIG_HUGE_NURSERY = 64, CONFIG_RECORDED = 128,
       CONFIG_SERIAL = 256, CONFIG_ASKS_FOR_ROOM = 512 };

/* Arguments of CALL_HELLO: the soft RLIMIT_AS or 0; where the filter's instructions are to be stored; for how many of them there
 * is room; the errno of the empty root; the errno of Landlock; where struct settings is. The answer stores the filter,
 * and its value is the filter's length. */

/* The controller stores this in the guest with the answer that lets it begin, and with a session's commands.
 * clock_offset: where time is real, the nanoseconds to add to the host's CLOCK_MONOTONIC. unobserved: whether calls are
 * not observed, so that the guest may answer some itself: readings of the host's clocks (stub_clock.c), of files that
 * do not change (stub_prefetched.c), and calls whose answers do not change (stub_statcache.c). readings: how it treats
 * its own readings of clocks. Only the controller stores here. */
struct settings {
    int64_t clock_offset;
    uint32_t unobserved, readings;
};

/* NOT_RECORDED: they are not sent. RECORDED: they are sent with the next request of the thread. REPLAYED: the guest
 * reads no clock, but the values that the controller has stored in the thread's ring. The last two only where calls are
 * not observed. */
enum { NOT_RECORDED = 0, RECORDED, REPLAYED };

/* A thread's readings of clocks since its last request, or to its next one; those of channel k are k rings after struct
 * settings. count: how many it has made. given: how many there are in a replay. */
enum { RING = 256 };
/* Instead of a clock of clock_gettime(2): the reading was made by gettimeofday(2), or by time(2). */
enum { TIME_OF_DAY = 200, SECONDS = 201 };
struct clock_ring {
    uint32_t count, given;
    uint8_t clock[RING];
    int64_t time[RING];
};

/* The stub sets this in a register that the kernel ignores; it means that the stub has already told the controller. It
 * routes calls and protects nothing: the controller counts threads by the listener, whether or not a call has this
 * value. */
#define ROUTE 0x70626f78u

/* The answer to a call on a file that a shared mapping may have changed is WRITE_BACK minus the number of that
 * mapping's hidden descriptor: the stub writes the changes of the mapping back, and repeats the call. */
#define WRITE_BACK (-(1ll << 40))

/* The clone flags of glibc's pthread_create, the only kind of thread in a box. */
#define THREAD_FLAGS 0x3d0f00u

/* FORK_ASKED: the clone flags of glibc's fork(3). FORK_FLAGS: the flag that the stub passes to the kernel instead,
 * CLONE_PARENT, so that the child is the controller's own. */
#define FORK_ASKED 0x1200011u
#define FORK_FLAGS 0x8000u

/* The answer to a fork that is granted: the child's process id in the box << 16, and FORK_AGAIN when the parent has to
 * request the next child at once (a zygote, which never returns from fork). The sixth register of the parent's next
 * request has the result of its clone. As with clone's answer, thread id << 16 | channel, one value says both: records
 * have these answers as one number, and the call names no memory in which a second one could be stored. */
enum { FORK_AGAIN = 1 };

/* The value of a SIGCONT (sigqueue(3)) by which the controller continues a guest that it has stopped: no handler of the
 * guest runs. Signals that the guest has sent itself come with the value 0. */
enum { WOKEN = 0x3A9E };

/* An answer in a replay: this process has to make a copy of itself to inspect the program (stub_inspect.c), and then to
 * wait for the answer. No handler answers with it. The copy's CALL_BORN has the address for the source, and the room
 * there in units of 8 bytes. */
#define INSPECT (-(1ll << 43))

/* Arguments of CALL_BORN: where the filter's instructions are to be stored, for how many there is room, and where this
 * struct is to be stored. The answer is the filter's length, or 0 for a child that already has its final filter.
 * space, most_space: the soft and the hard RLIMIT_AS. cpu: -1 for any. */
struct newborn {
    uint64_t space, most_space, cpu_seconds;
    int64_t cpu;
};

/* Shared mappings of virtual files lie in the 16 TiB from here, so that the filter can recognize a munmap of one. The
 * stub writes the mapping back at its munmap. */
#define SHARED_BASE 0x100000000000ul

#endif

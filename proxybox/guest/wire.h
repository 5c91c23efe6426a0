/* What both sides of the wire agree on. The controller's copies: controller/protocol.py, roles.py and launch.py.
 *
 * Nothing in this folder is trusted once a guest runs: hostile code can overwrite all of it. What holds then is the
 * filter (stub_seal.c), the controller's parser and its policy.
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
enum { CALL_HELLO = 0x50420001, CALL_FAILED = 0x50420002, CALL_FAULTED = 0x50420003 };

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

/* The first bytes on the main channel, from the controller; `rows` call_roles follow, then `hide` bytes of
 * NUL-terminated pairs (host path prefix, the path that the guest may see in its place). */
struct config {
    uint32_t magic, channels, flags, rows, hide;
    uint32_t pid, uid, gid;
    uint64_t memory;
};

enum { CONFIG_MAGIC = 0x31584250, MAX_ROWS = 512, MAX_HIDE = 16384 };
enum { CONFIG_REAL_TIME = 1, CONFIG_THREADS = 2 };

/* In a register that the kernel ignores, this says that the stub has told the controller already. It routes calls to
 * the right place and protects nothing: the controller counts threads by the listener, whoever sets it. */
#define ROUTE 0x70626f78u

/* The flags of glibc's pthread_create, the one kind of clone that exists in a box. */
#define THREAD_FLAGS 0x3d0f00u

/* Shared mappings of virtual files live here, so that the filter can tell their munmap, which writes them back. */
#define SHARED_BASE 0x100000000000ul
#define SHARED_HIGH 0x1000u

#endif

/* One OS call is one round trip. The call's number, its registers and the memory that it reads are sent; the result and
 * the bytes to store come back. The controller has sent a table of the arguments that are memory (`wire_learn`). */
#include <errno.h>
#include <string.h>

#include "stub_wire.h"

enum { STAGE = 16 * 1024, MAX_IOVEC = 1024 };

struct iovec_entry {
    uint64_t address, size;
};

static struct channel {
    char out[STAGE];
    size_t filled;
    char in[STAGE];
    size_t begin, end;
    struct iovec_entry vector[MAX_IOVEC];
} channels[MAX_CHANNELS];

static struct call_roles roles[MAX_ROWS];
void (*when_inspected)(void);

static bool makes_sense(const struct role *role)
{
    return role->arg < 6 && role->length_arg < 6 && role->fetch >= FETCH_STRING && role->fetch <= FETCH_BITS && role->size &&
           role->size <= MAX_PAYLOAD;
}

bool wire_learn(const struct call_roles *row)
{
    bool all = row->count <= 6;
    for (unsigned i = 0; i < row->count && all; i++)
        all = makes_sense(&row->role[i]);
    if (all && row->number < MAX_ROWS) /* a record may have calls that this stub does not make */
        roles[row->number] = *row;
    return all;
}

/* The controller or the channel has ended: this process's calls would get no answers. */
static void give_up(void)
{
    for (;;)
        KERNEL(SYS_exit_group, 125, ROUTE);
}

void wire_begin(void)
{
    channels[0].filled = channels[0].begin = channels[0].end = 0;
}

static struct channel *own_channel(void)
{
    unsigned index = (unsigned)channel_index;
    return &channels[index < MAX_CHANNELS ? index : 0];
}

static int reply_fd(const struct channel *channel) { return FIRST_CHANNEL_FD + 2 * (int)(channel - channels); }

/* --- requests --- */

static void flush(struct channel *channel)
{
    for (size_t done = 0; done < channel->filled;) {
        long written = KERNEL(SYS_write, reply_fd(channel) + 1, channel->out + done, channel->filled - done, ROUTE);
        if (written <= 0 && written != ERROR(EINTR))
            give_up();
        done += written > 0 ? (size_t)written : 0;
    }
    channel->filled = 0;
}

/* Appends guest memory. Memory that has become unreadable since it was measured is sent as zeros. */
static void put(struct channel *channel, const void *from, size_t size)
{
    while (size) {
        size_t room = STAGE - channel->filled, piece = size < room ? size : room;
        if (!guarded_copy(channel->out + channel->filled, from, piece))
            memset(channel->out + channel->filled, 0, piece);
        channel->filled += piece;
        from = (const char *)from + piece;
        size -= piece;
        if (channel->filled == STAGE)
            flush(channel);
    }
}

static void put_u32(struct channel *channel, uint32_t value) { put(channel, &value, sizeof value); }

/* Returns the value to send for one role: a length, or a marker (ABSENT, FAULT, TOO_LONG). */
static uint32_t measure_gather(struct channel *channel, const void *vector, uint64_t count)
{
    uint64_t total = 0;
    if ((int64_t)count < 0 || count > MAX_IOVEC)
        return 0; /* the controller checks the count and refuses it */
    if (!guarded_copy(channel->vector, vector, count * sizeof *channel->vector))
        return FAULT;
    for (uint64_t i = 0; i < count; i++) {
        struct iovec_entry *entry = &channel->vector[i];
        if (entry->size > MAX_PAYLOAD - total)
            entry->size = MAX_PAYLOAD - total;
        if (!guarded_range((const void *)entry->address, entry->size))
            return FAULT;
        total += entry->size;
    }
    return (uint32_t)total;
}

static uint32_t clamp(uint64_t count, uint64_t size)
{
    if ((int64_t)count <= 0)
        return 0;
    return count > MAX_PAYLOAD / size ? MAX_PAYLOAD : (uint32_t)(count * size);
}

static uint32_t measure(struct channel *channel, const struct role *role, const uint64_t args[6])
{
    const void *address = (const void *)args[role->arg];
    uint64_t count = args[role->length_arg];
    if (role->length_is)
        count = role->length_is == LENGTH_INT ? (uint64_t)(int32_t)count : (uint32_t)count;
    uint32_t size;
    if (role->fetch == FETCH_GATHER)
        return measure_gather(channel, address, count);
    if (role->fetch == FETCH_STRING) {
        if (!address)
            return ABSENT;
        long length = guarded_length(address, MAX_PATH);
        return length < 0 ? FAULT : length >= (long)MAX_PATH ? TOO_LONG : (uint32_t)length;
    }
    if (role->fetch == FETCH_BUFFER)
        size = clamp(count, role->size);
    else if (role->fetch == FETCH_BITS)
        size = (uint32_t)(((int32_t)count <= 0 ? 0u : (uint32_t)count > 1024 ? 1024u : (uint32_t)count) + 63) / 64 * 8;
    else
        size = role->size;
    if (!address && !(role->fetch == FETCH_BUFFER && !size))
        return ABSENT;
    if (!guarded_range(address, size))
        return role->fetch == FETCH_SOFT ? ABSENT : FAULT;
    return size;
}

static void send_request(struct channel *channel, long number, const uint64_t args[6])
{
    static const struct call_roles none;
    const struct call_roles *call = (unsigned long)number < MAX_ROWS ? &roles[number] : &none;
    struct request head = {.size = sizeof head, .number = (uint32_t)number};
    uint32_t sizes[6];
    const unsigned count = call->count;
    for (unsigned i = 0; i < count; i++) {
        sizes[i] = measure(channel, &call->role[i], args);
        head.size += 4 + (sizes[i] >= TOO_LONG ? 0 : sizes[i]);
    }
    struct clock_ring *ring = own_ring();
    const uint16_t clocks = settings.readings ? (uint16_t)(ring->count < RING ? ring->count : RING) : 0;
    if (clocks) {
        head.number |= WITH_CLOCKS;
        head.size += sizeof clocks + clocks * (1 + (uint32_t)sizeof *ring->time);
    }
    memcpy(head.args, args, sizeof head.args);
    put(channel, &head, sizeof head);
    for (unsigned i = 0; i < count; i++) {
        put_u32(channel, sizes[i]);
        if (sizes[i] >= TOO_LONG)
            continue;
        if (call->role[i].fetch != FETCH_GATHER) {
            put(channel, (const void *)args[call->role[i].arg], sizes[i]);
            continue;
        }
        for (size_t left = sizes[i], k = 0; left; left -= channel->vector[k++].size)
            put(channel, (const void *)channel->vector[k].address, channel->vector[k].size);
    }
    if (clocks) {
        put(channel, ring->clock, clocks);
        put(channel, ring->time, clocks * sizeof *ring->time);
        put(channel, &clocks, sizeof clocks);
    }
    ring->count = ring->given = 0; /* the answer has those of a replay */
    flush(channel);
}

/* --- replies --- */

static void refill(struct channel *channel)
{
    long got;
    do
        got = KERNEL(SYS_read, reply_fd(channel), channel->in, STAGE, ROUTE);
    while (got == ERROR(EINTR));
    if (got <= 0)
        give_up();
    channel->begin = 0;
    channel->end = (size_t)got;
}

static void take(struct channel *channel, void *to, size_t size)
{
    while (size) {
        if (channel->begin == channel->end)
            refill(channel);
        size_t held = channel->end - channel->begin, piece = size < held ? size : held;
        memcpy(to, channel->in + channel->begin, piece);
        channel->begin += piece;
        to = (char *)to + piece;
        size -= piece;
    }
}

static void skip(struct channel *channel, size_t size)
{
    while (size) {
        if (channel->begin == channel->end)
            refill(channel);
        size_t held = channel->end - channel->begin, piece = size < held ? size : held;
        channel->begin += piece;
        size -= piece;
    }
}

/* Stores `size` bytes of the reply at a guest address: bytes in the buffer are copied, the rest is read straight to the
 * address. */
static bool store(struct channel *channel, char *to, size_t size)
{
    while (size) {
        size_t held = channel->end - channel->begin;
        if (held) {
            size_t piece = size < held ? size : held;
            if (!guarded_copy(to, channel->in + channel->begin, piece)) {
                skip(channel, size);
                return false;
            }
            channel->begin += piece;
            to += piece;
            size -= piece;
            continue;
        }
        long got = size < STAGE ? (refill(channel), 0) : KERNEL(SYS_read, reply_fd(channel), to, size, ROUTE);
        if (got == ERROR(EFAULT)) {
            skip(channel, size);
            return false;
        }
        if (got < 0 && got != ERROR(EINTR))
            give_up();
        if (got > 0) {
            to += got;
            size -= (size_t)got;
        }
    }
    return true;
}

static long receive_reply(struct channel *channel)
{
    struct reply head;
    struct reply_write write;
    bool stored = true;
    take(channel, &head, sizeof head);
    for (uint32_t i = 0; i < head.writes; i++) {
        take(channel, &write, sizeof write);
        stored &= store(channel, (char *)write.address, write.length);
    }
    return stored ? head.value : ERROR(EFAULT);
}

static uint64_t begun, answered; /* calls of all threads */

uint64_t calls_begun(void) { return __atomic_load_n(&begun, __ATOMIC_SEQ_CST); }

uint64_t calls_answered(void) { return __atomic_load_n(&answered, __ATOMIC_SEQ_CST); }

/* Calls of this thread. */
static __thread uint64_t own_calls __attribute__((tls_model("initial-exec")));

uint64_t calls_of_thread(void) { return own_calls; }

long round_trip(long number, const uint64_t args[6])
{
    struct channel *channel = own_channel();
    own_calls++;
    __atomic_fetch_add(&begun, 1, __ATOMIC_SEQ_CST);
    send_request(channel, number, args);
    long value;
    while ((value = receive_reply(channel)) == INSPECT)
        when_inspected();
    __atomic_fetch_add(&answered, 1, __ATOMIC_SEQ_CST);
    return value;
}

/* A thread's last request: no answer comes. From here on the channel may be another thread's, so this uses only the
 * channel's descriptor. */
void wire_farewell(const uint64_t args[6])
{
    struct request head = {.size = sizeof head, .number = SYS_exit};
    memcpy(head.args, args, sizeof head.args);
    while (KERNEL(SYS_write, reply_fd(own_channel()) + 1, &head, sizeof head, ROUTE) == ERROR(EINTR))
        ;
}

bool wire_read_exactly(int fd, void *buffer, size_t size)
{
    for (size_t done = 0; done < size;) {
        long got = KERNEL(SYS_read, fd, (char *)buffer + done, size - done);
        if (got <= 0 && got != ERROR(EINTR))
            return false;
        done += got > 0 ? (size_t)got : 0;
    }
    return true;
}

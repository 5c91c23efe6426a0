/* The stub in a process of its own, without a controller and without a guest: an input says what the guest calls, what its
 * memory holds and what the controller answers. AddressSanitizer and UndefinedBehaviorSanitizer watch.
 *
 * The files of the stub that read frames, tables and the guest's memory are included here as they are. `kernel_call` and
 * the functions of stub_x86_64.c are others: they know which memory is the guest's. What the guest names is never the
 * stub's own memory; what the stub names as its own must be.
 *
 * Input: pieces, each a byte and what `play` reads behind it (tests/fuzz/stub_harness.py writes them).
 */
#include <asm/unistd.h>
#include <errno.h>
#include <sanitizer/asan_interface.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "wire.h"
#include "x86_64.h"
static long kernel(long number, long a, long b, long c, long d, long e, long f);
#define kernel_call kernel
/* AddressSanitizer has its own memory where the stub's mappings are. */
#undef SHARED_BASE
#define SHARED_BASE 0x600000000000ul

/* No leaks, because an input ends in the middle of a call; and what is on the stack has to be there (`is_ours`). */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0"; }

#include "stub_config.c"
#include "stub_guard.c"
#include "stub_wire.c"
#include "stub_calls.c"
#undef BIT
#include "stub_statcache.c"
#include "stub_prefetched.c"
#include "stub_memory.c"
#include "stub_signals.c"
#include "stub_threads.c"
#include "stub_trap.c"
#include "stub_hide.c"

static struct {
    const uint8_t *at, *end;
} input;
static struct { /* of the controller, to the request that was sent last */
    uint8_t bytes[1 << 16];
    size_t at, size;
    unsigned left, silent; /* how many the input has, and how many more were made up */
} answer_to;
static unsigned cut; /* how many bytes one read(2) brings at most */
static jmp_buf input_ended, call_ended;

/* --- the guest's memory --- */

/* ARENA: what the guest has, with pages at its end that are not there. EMULATED: where the stub makes mappings. */
#define ARENA 0x700000000000ul
enum { ARENA_SIZE = 32 * PAGE, ARENA_READABLE = 24 * PAGE, MOST_MAPPED = 1 << 22 };

static bool overlaps(uint64_t from, uint64_t size, uint64_t start, uint64_t length)
{
    return from < start + length && (from >= start || size > start - from);
}

/* What the stub has mapped since the input began. */
static struct {
    uint64_t from, size;
} mapped[64];
static unsigned mappings;

extern const char __executable_start[], _end[];
static uint64_t stack; /* where that of `play` begins */

/* Whether it is this program's text and data, which begins and ends with the file, or its stack. */
static bool is_ours(uint64_t from, uint64_t size)
{
    uint64_t low = (uint64_t)__builtin_frame_address(0);
    return (from >= (uint64_t)__executable_start && from < (uint64_t)_end && size <= (uint64_t)_end - from) ||
           (from >= low && from < stack && size <= stack - from);
}

enum whose { STUBS, READABLE, UNREADABLE };

static enum whose whose(uint64_t from, uint64_t size)
{
    if (from >= ARENA && from + size >= from && from + size <= ARENA + ARENA_READABLE)
        return READABLE;
    for (unsigned i = 0; i < mappings; i++)
        if (overlaps(from, size, mapped[i].from, mapped[i].size))
            return from >= mapped[i].from && size <= mapped[i].size - (from - mapped[i].from) ? READABLE : UNREADABLE;
    return is_ours(from, size) ? STUBS : UNREADABLE;
}

/* What an answer stores is stored where it says, and the controller is believed that this is where the call wants it. Here
 * it says anything: so nothing is stored but where the stub has room, and never outside of an object. */
static bool may_store(uint64_t to, const void *from, size_t size)
{
    uint64_t at = (uint64_t)from;
    bool is_answer = overlaps(at, size, (uint64_t)answer_to.bytes, sizeof answer_to.bytes) ||
                     overlaps(at, size, (uint64_t)channels[0].in, sizeof channels[0].in);
    bool is_its_own = to >= (uint64_t)channels && to < (uint64_t)(channels + 1);
    return !is_answer || is_its_own || whose(to, size) == READABLE || !__asan_region_is_poisoned((void *)to, size);
}

bool guarded_copy(void *to, const void *from, size_t size)
{
    if (size && (whose((uint64_t)from, size) == UNREADABLE || whose((uint64_t)to, size) == UNREADABLE ||
                 !may_store((uint64_t)to, from, size)))
        return false;
    if (size)
        memcpy(to, from, size); /* the sanitizer looks at both */
    return true;
}

long guarded_length(const char *text, size_t max)
{
    for (size_t length = 0; length < max; length++) {
        if (whose((uint64_t)text + length, 1) == UNREADABLE)
            return -1;
        if (!text[length])
            return (long)length;
    }
    return (long)max;
}

/* --- what stands in other files --- */

const char *unreadable_from, *unreadable_to;
bool collecting_is_due;
bool guard_repair(ucontext_t *context) { return !context; }
bool emulate_counter(ucontext_t *context) { return !context; }
long emulate_clock_gettime(const uint64_t args[6], const void *caller)
{
    (void)caller;
    return round_trip(SYS_clock_gettime, args);
}
void add_nanoseconds(struct timespec *time, int64_t nanoseconds) { time->tv_sec += nanoseconds / 1000000000; }
long futex_again(ucontext_t *context, siginfo_t *info, const struct timespec *until)
{
    (void)context, (void)info, (void)until;
    return 0;
}
long clone_into(const uint64_t args[6], void *frame)
{
    (void)args, (void)frame;
    return ERROR(EAGAIN);
}
long emulate_fork(const uint64_t args[6]) { return round_trip(SYS_clone, args); }
void collecting_begin(void) {}
void collecting_prepare(void) {}
void collecting_closed(void) {}
bool collecting_helps(void) { return false; }
bool collecting_has_closed(void) { return false; }
bool room_for(uint64_t size, enum room kind) { return (size ^ (uint64_t)kind) & 1; }
long give_back(uint64_t address, uint64_t size) { return address && size ? 0 : ERROR(EINVAL); }
bool each_mapping(bool (*look)(const struct mapping *, void *), void *context) { return look && context; }

/* --- what an input holds --- */

static const uint8_t *next(size_t size)
{
    if ((size_t)(input.end - input.at) < size)
        longjmp(input_ended, 1);
    input.at += size;
    return input.at - size;
}

static uint64_t number_of(size_t size)
{
    uint64_t value = 0;
    memcpy(&value, next(size), size);
    return value;
}

/* A register: a small number, the guest's memory, the end of what it has, a mapping of the stub's, or anything. */
static uint64_t a_register(void)
{
    switch (number_of(1) % 5) { /* tests/fuzz/stub_harness.py */
    case 0:
        return (uint64_t)(int64_t)(int32_t)number_of(4);
    case 1:
        return ARENA + number_of(4) % ARENA_SIZE;
    case 2:
        return ARENA + ARENA_READABLE - number_of(1);
    case 3: {
        unsigned which = (unsigned)number_of(1), at = (unsigned)number_of(2);
        return mappings ? mapped[which % mappings].from + at : ARENA + at;
    }
    default:
        return number_of(8);
    }
}

/* --- the kernel --- */

static uint8_t sent[sizeof(struct request)]; /* the head of the request that is being written */
static uint64_t sent_size;

/* What the stub writes are whole requests, of the size that they tell. */
static long takes(const void *from, size_t size)
{
    static volatile uint8_t seen;
    struct request head;
    for (size_t i = 0; i < size; i++) {
        seen ^= ((const uint8_t *)from)[i];
        if (sent_size < sizeof sent)
            sent[sent_size] = ((const uint8_t *)from)[i];
        sent_size++;
        memcpy(&head, sent, sizeof head);
        if (sent_size >= sizeof head && sent_size >= head.size)
            sent_size = 0; /* what comes next is another one */
    }
    return (long)size;
}

static void no_request_is_half(void)
{
    struct request head;
    memcpy(&head, sent, sizeof head);
    if (sent_size) {
        fprintf(stderr, "%lu bytes are sent of a request that says that it has %u\n", (unsigned long)sent_size, head.size);
        abort();
    }
}

static void append(const void *bytes, size_t size)
{
    if (size > sizeof answer_to.bytes - answer_to.size)
        longjmp(call_ended, 1);
    memcpy(answer_to.bytes + answer_to.size, bytes, size);
    answer_to.size += size;
}

/* An answer as the input has it: bytes, or a value and what is stored where registers of the request point. */
static void make_answer(void)
{
    struct reply head = {sizeof head, 0, 0};
    struct request asked;
    memcpy(&asked, sent, sizeof asked);
    answer_to.at = answer_to.size = 0;
    if (!answer_to.left) {
        if (++answer_to.silent > 16)
            longjmp(call_ended, 1);
        append(&head, sizeof head);
        return;
    }
    answer_to.left--;
    if (number_of(1) & 1) {
        size_t size = number_of(2);
        append(next(size), size);
        return;
    }
    head.value = (int64_t)number_of(8);
    head.writes = (uint32_t)number_of(1) % 8;
    append(&head, sizeof head);
    for (uint32_t i = 0; i < head.writes; i++) {
        uint64_t base = asked.args[number_of(1) % 6];
        struct reply_write write = {(uint32_t)number_of(4), (uint32_t)number_of(2)};
        /* what the stub asks for itself is the status of a file, at least */
        write.address = base + (whose(base, 1) == STUBS ? write.address % sizeof(struct stat) : write.address);
        append(&write, sizeof write);
        append(next(write.length), write.length);
    }
}

static long gives(char *to, size_t size)
{
    no_request_is_half();
    if (answer_to.at == answer_to.size)
        make_answer();
    size_t left = answer_to.size - answer_to.at;
    if (!left)
        longjmp(call_ended, 1); /* the controller has ended, and so would this process */
    size = size < left ? size : left;
    size = cut && size > cut ? cut : size;
    if (!guarded_copy(to, answer_to.bytes + answer_to.at, size))
        return ERROR(EFAULT);
    answer_to.at += size;
    return (long)size;
}

static long maps(uint64_t at, uint64_t size, int flags)
{
    uint64_t total = size;
    for (unsigned i = 0; i < mappings; i++)
        total += mapped[i].size;
    if (!size || size % PAGE || total > MOST_MAPPED || mappings == sizeof mapped / sizeof *mapped)
        return ERROR(ENOMEM);
    if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) && whose(at, size) != UNREADABLE)
        return ERROR(EEXIST);
    if (!(flags & MAP_FIXED_NOREPLACE))
        at = 0; /* anywhere, so that nothing of this process is mapped over */
    void *made = mmap((void *)at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);
    if (made == MAP_FAILED)
        return ERROR(errno);
    mapped[mappings].from = (uint64_t)made;
    mapped[mappings++].size = size;
    return (long)made;
}

static long unmaps(uint64_t at, uint64_t size)
{
    for (unsigned i = 0; i < mappings; i++)
        if (mapped[i].from == at && mapped[i].size == size) {
            munmap((void *)at, size);
            mapped[i] = mapped[--mappings];
            return 0;
        }
    return ERROR(EINVAL); /* a part of one stays, and can be read */
}

static long kernel(long number, long a, long b, long c, long d, long e, long f)
{
    (void)e, (void)f;
    switch (number) {
    case SYS_read:
        return gives((char *)b, (size_t)c);
    case SYS_write:
        return takes((const void *)b, (size_t)c);
    case SYS_mmap:
        return maps((uint64_t)a, (uint64_t)b, (int)d);
    case SYS_munmap:
        return unmaps((uint64_t)a, (uint64_t)b);
    case SYS_exit_group:
    case SYS_exit:
        longjmp(call_ended, 1);
    default:
        return 0;
    }
}

/* --- what an input does --- */

static void begin_calls(void)
{
    memset(&here, 0, sizeof here);
    sent_size = 0;
    shared_lock = 0;
    wire_begin();
}

static void look_at_nothing(void) {}

static void begin(void)
{
    static uint8_t blank[sizeof roles];
    while (mappings) {
        mappings--;
        munmap((void *)mapped[mappings].from, mapped[mappings].size);
    }
    memset((void *)ARENA, 0, ARENA_READABLE);
    memcpy(roles, blank, sizeof roles);
    memset(shared, 0, sizeof *shared * (size_t)shared_end);
    memset(known, 0, sizeof known);
    memset(actions, 0, sizeof actions);
    memset(&config, 0, sizeof config);
    shared_end = 0;
    next_shared = SHARED_BASE;
    handed.fd = handed.closing = NO_DESCRIPTOR;
    begun = answered = own_calls = 0;
    has_had_threads = false;
    when_inspected = look_at_nothing;
    settings.unobserved = 1;
    settings.readings = NOT_RECORDED;
    own_ring()->count = own_ring()->given = 0;
    is_sealed = can_map_libraries = true;
    statcache_forget();
    begin_calls();
}

/* A call by a trap or by a function of libc, and the answers that the controller gives it. */
static void call(void)
{
    bool traps = number_of(1) & 1;
    siginfo_t info = {.si_code = SYS_SECCOMP};
    ucontext_t context;
    uint64_t args[6];
    long result;
    int number = (int)number_of(4);
    static const uint8_t registers[6] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    memset(&context, 0, sizeof context);
    for (int i = 0; i < 6; i++)
        context.uc_mcontext.gregs[registers[i]] = (greg_t)(args[i] = a_register());
    cut = (unsigned)number_of(1);
    answer_to.left = (unsigned)number_of(1);
    answer_to.silent = 0;
    answer_to.at = answer_to.size = 0;
    info.si_syscall = number;
    if (setjmp(call_ended)) { /* the process would have ended; the next call is another's */
        begin_calls();
        return;
    }
    if (traps)
        on_sigsys(SIGSYS, &info, &context);
    else if (!prefetched_answers(number, args, &result))
        plain_call(number, args, coherent_trip);
    no_request_is_half();
}

static void poke(void)
{
    uint64_t to = a_register(), size = number_of(2);
    const uint8_t *bytes = next(size);
    if (size && whose(to, size) == READABLE)
        memcpy((void *)to, bytes, size);
}

static void learn(void)
{
    struct call_roles row;
    memcpy(&row, next(sizeof row), sizeof row);
    wire_learn(&row);
}

static void be_told(void)
{
    unsigned bits = (unsigned)number_of(1);
    settings.unobserved = bits & 1;
    settings.readings = bits >> 1 & 3;
    has_had_threads = bits >> 3 & 1;
    config.flags = bits & 16 ? CONFIG_SERIAL : bits & 32 ? CONFIG_REAL_TIME : 0;
    own_ring()->count = bits & 64 ? (uint32_t)number_of(4) : 0;
    config.outside_proc = (uint32_t)snprintf(outside_proc, sizeof outside_proc, "/usr/%c/box", 0) + 1;
}

/* A path of the host's in memory that has exactly that size. */
static void hide_a_path(void)
{
    char host[64] = {0}, visible[64] = {0};
    size_t longer = 1 + number_of(1) % 63, shorter = number_of(1) % (longer + 1), size = number_of(2);
    memcpy(host, next(longer), longer);
    memcpy(visible, next(shorter), shorter);
    if (!*host || strlen(visible) > strlen(host))
        return;
    const uint8_t *bytes = next(size);
    char *memory = malloc(size + 1);
    memcpy(memory, bytes, size);
    if (size)
        replace_in(memory, memory + size, host, visible);
    free(memory);
}

static void play(void)
{
    for (;;)
        switch (number_of(1) % 5) {
        case 0:
            learn();
            break;
        case 1:
            call();
            break;
        case 2:
            poke();
            break;
        case 3:
            be_told();
            break;
        default:
            hide_a_path();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_there;
    if (!is_there && mmap((void *)ARENA, ARENA_READABLE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
        abort();
    is_there = true;
    stack = (uint64_t)__builtin_frame_address(0);
    begin();
    input.at = data;
    input.end = data + size;
    if (!setjmp(input_ended))
        play();
    return 0;
}

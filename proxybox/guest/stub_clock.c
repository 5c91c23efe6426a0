/* The clocks of the guest.
 *
 * In a box whose time is not real: only the box's clocks. The vDSO's entry points become system calls, its data pages
 * are unmapped, and rdtsc faults. Such a guest still has two clocks: counting in a loop, and RDPID. limitations.md says
 * so.
 *
 * In a box with real time the vDSO and its data pages are moved (mremap), and a copy takes their place, where libc calls
 * it. The copy's clock functions, which are in this file, call the moved vDSO and add the box's offset, when the
 * controller has allowed that (`settings`); before that, and for all other clocks, they are system calls. Where calls
 * are observed from the start, the vDSO is covered as in other boxes.
 *
 * In a recorded box with real time all clocks are covered as where time is not real. Only the functions in this file
 * read the time, and they note each reading: they read the kernel's clock by a system call that the filter allows for
 * them. A replayed box has the same, without that call.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <time.h>

#include "stub_clocks.h"

enum { PAGE = 4096 };

/* The address of the kernel's vDSO after its move, and its own functions; NULL where there is none. */
static const char *moved_vdso, *moved_end;
static int read_clock(clockid_t, struct timespec *);
static int read_time_of_day(struct timeval *, struct timezone *);
static time_t read_seconds(time_t *);
static int (*host_clock_gettime)(clockid_t, struct timespec *) = read_clock;
static int (*host_gettimeofday)(struct timeval *, struct timezone *) = read_time_of_day;
static time_t (*host_time)(time_t *) = read_seconds;

/* --- readings that are recorded --- */

static void clocks_flush(void)
{
    if (settings.readings && own_ring()->count)
        KERNEL(CALL_CLOCKS);
}

/* A reading that is recorded. A signal that comes in the middle of a reading is deferred, as in a call: its handler may
 * read clocks, too, or make a call that sends readings. Meanwhile no code may access the program's memory, where it
 * could fault. */
struct reading {
    bool is_recorded, outer;
    uint64_t calls;
};

static struct reading reading_begins(void)
{
    if (settings.readings != RECORDED)
        return (struct reading){false, false, 0};
    bool outer = call_begins();
    return (struct reading){true, outer, calls_of_thread()};
}

/* Notes a reading, unless it was itself a call (`emulate_clock_gettime`). time: -1 where there was none. */
static void reading_ends(struct reading reading, clockid_t clock, int64_t time)
{
    struct clock_ring *ring = own_ring();
    if (!reading.is_recorded)
        return;
    if (time >= 0 && reading.calls == calls_of_thread()) {
        if (ring->count >= RING)
            clocks_flush();
        ring->clock[ring->count % RING] = (uint8_t)clock;
        ring->time[ring->count % RING] = time;
        ring->count++;
    }
    if (call_ends(reading.outer))
        KERNEL(CALL_PUT_OFF);
}

/* Returns the reading that was made at this place when the run was recorded. False where there was none. */
static bool was_read(clockid_t clock, int64_t *time)
{
    struct clock_ring *ring = own_ring();
    bool outer = call_begins();
    if (ring->count >= RING)
        clocks_flush();
    bool is_there = ring->count < ring->given && ring->clock[ring->count % RING] == clock;
    if (is_there)
        *time = ring->time[ring->count++ % RING];
    if (call_ends(outer))
        KERNEL(CALL_PUT_OFF);
    return is_there;
}

enum { SECOND = 1000000000 };

/* --- the kernel's clocks in a recorded box --- */

static int read_clock(clockid_t clock, struct timespec *time) { return (int)KERNEL(SYS_clock_gettime, clock, time, ROUTE); }

static int read_time_of_day(struct timeval *time, struct timezone *zone)
{
    struct timespec now;
    (void)zone;
    int result = read_clock(CLOCK_REALTIME, &now);
    if (result == 0)
        *time = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return result;
}

static time_t read_seconds(time_t *time)
{
    struct timespec now = {0};
    (void)time;
    read_clock(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

/* --- replacements of the vDSO's functions --- */

static int box_clock_gettime(clockid_t clock, struct timespec *time)
{
    bool is_monotonic = clock == CLOCK_MONOTONIC;
    int64_t then;
    if (!settings.unobserved || !(is_monotonic || clock == CLOCK_REALTIME))
        return (int)KERNEL(SYS_clock_gettime, clock, time);
    if (settings.readings == REPLAYED) {
        if (!was_read(clock, &then))
            return (int)KERNEL(SYS_clock_gettime, clock, time);
        *time = (struct timespec){then / SECOND, then % SECOND};
        return 0;
    }
    struct timespec now;
    struct reading reading = reading_begins();
    bool is_read = host_clock_gettime(clock, &now) == 0;
    if (is_read && is_monotonic)
        add_nanoseconds(&now, settings.clock_offset);
    reading_ends(reading, clock, is_read ? now.tv_sec * SECOND + now.tv_nsec : -1);
    if (!is_read)
        return (int)KERNEL(SYS_clock_gettime, clock, time);
    *time = now;
    return 0;
}

static int box_gettimeofday(struct timeval *time, struct timezone *zone)
{
    int64_t then;
    if (!settings.unobserved || zone || !time)
        return (int)KERNEL(SYS_gettimeofday, time, zone);
    if (settings.readings == REPLAYED) {
        if (!was_read(TIME_OF_DAY, &then))
            return (int)KERNEL(SYS_gettimeofday, time, zone);
        *time = (struct timeval){then / SECOND, then % SECOND / 1000};
        return 0;
    }
    struct timeval now;
    struct reading reading = reading_begins();
    bool is_read = host_gettimeofday(&now, NULL) == 0;
    reading_ends(reading, TIME_OF_DAY, is_read ? now.tv_sec * SECOND + now.tv_usec * 1000 : -1);
    if (!is_read)
        return (int)KERNEL(SYS_gettimeofday, time, zone);
    *time = now;
    return 0;
}

static time_t box_time(time_t *time)
{
    int64_t now;
    if (!settings.unobserved)
        return KERNEL(SYS_time, time);
    if (settings.readings == REPLAYED) {
        if (!was_read(SECONDS, &now))
            return KERNEL(SYS_time, time);
        now /= SECOND;
    } else {
        struct reading reading = reading_begins();
        now = host_time(NULL);
        reading_ends(reading, SECONDS, now * SECOND);
    }
    if (time)
        *time = now;
    return now;
}

static void counter_reads(struct timespec *time)
{
    if ((config.flags & CONFIG_SEAL_ONLY) || (settings.unobserved && box_clock_gettime(CLOCK_MONOTONIC, time) == 0))
        return;
    ASK(SYS_clock_gettime, CLOCK_MONOTONIC, time);
}

/* rdtsc and rdtscp fault where time is not real, and where a run is recorded. They then return the box's monotonic clock
 * in nanoseconds or, in a guest that marshals its own calls, the number of times that the counter was read. */
bool emulate_counter(ucontext_t *context)
{
    static long readings;
    int length = config.flags & CONFIG_REAL_TIME ? 0 : counter_instruction(context);
    if (!length)
        return false;
    struct timespec now = {0, ++readings};
    counter_reads(&now);
    counter_returns(context, length, (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec);
    return true;
}

/* Where the kernel keeps no time that can be read by a program (the clock source of some virtual machines), the moved
 * vDSO makes a system call. Its caller then adds the offset once more, so it is subtracted here. */
long emulate_clock_gettime(const uint64_t args[6], const void *caller)
{
    long result = round_trip(SYS_clock_gettime, args);
    if (result == 0 && (clockid_t)args[0] == CLOCK_MONOTONIC && (const char *)caller > moved_vdso && (const char *)caller <= moved_end)
        add_nanoseconds((struct timespec *)args[1], -settings.clock_offset);
    return result;
}

/* The functions of the vDSO. host: where to store the address of the moved function; box: its replacement. */
static const struct entry_point {
    const char *name;
    int number;
    void *host, *box;
} entry_points[] = {
    {"clock_gettime", SYS_clock_gettime, &host_clock_gettime, box_clock_gettime},
    {"gettimeofday", SYS_gettimeofday, &host_gettimeofday, box_gettimeofday},
    {"time", SYS_time, &host_time, box_time},
    {"clock_getres", SYS_clock_getres, NULL, NULL},
    {"getcpu", SYS_getcpu, NULL, NULL},
    {"getrandom", SYS_getrandom, NULL, NULL},
};

static const struct entry_point *entry_point(const char *name)
{
    /* A newer function: the controller does not know this number and answers ENOSYS. */
    static const struct entry_point unknown = {"", 0xfff, NULL, NULL};
    static const char prefix[] = "__vdso_"; /* each function has a second name without this prefix */
    if (!strncmp(name, prefix, sizeof prefix - 1))
        name += sizeof prefix - 1;
    for (size_t i = 0; i < sizeof entry_points / sizeof *entry_points; i++)
        if (!strcmp(name, entry_points[i].name))
            return &entry_points[i];
    return &unknown;
}

/* Overwrites every function that a vDSO's image exports, which is linked for any address (gVisor's is not linked for 0).
 * moved: the address of the kernel's own vDSO now; NULL when it no longer exists: in a recorded box the functions in
 * this file then read the kernel's clocks. */
static bool patch_entry_points(char *image, const char *moved)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
    const Elf64_Phdr *segment = (const Elf64_Phdr *)(image + header->e_phoff);
    const Elf64_Sym *symbols = NULL;
    const char *names = NULL;
    uint64_t linked_at = 0, size = 0, count = 0;
    for (int i = header->e_phnum - 1; i >= 0; i--)
        if (segment[i].p_type == PT_LOAD)
            linked_at = segment[i].p_vaddr - segment[i].p_offset; /* the first segment, at the end of this loop */
    for (int i = 0; i < header->e_phnum; i++) {
        if (segment[i].p_type == PT_LOAD)
            size = segment[i].p_vaddr - linked_at + segment[i].p_memsz;
        if (segment[i].p_type != PT_DYNAMIC)
            continue;
        const Elf64_Dyn *entry = (const Elf64_Dyn *)(image + (segment[i].p_vaddr - linked_at));
        for (; entry->d_tag != DT_NULL; entry++) {
            if (entry->d_tag == DT_SYMTAB)
                symbols = (const Elf64_Sym *)(image + (entry->d_un.d_ptr - linked_at));
            if (entry->d_tag == DT_STRTAB)
                names = image + (entry->d_un.d_ptr - linked_at);
        }
    }
    if (!symbols || !names || (const char *)symbols > names)
        return false;
    count = (uint64_t)(names - (const char *)symbols) / sizeof *symbols; /* the string table follows the symbols */
    size = (size + 4095) & ~4095ul;
    if (KERNEL(SYS_mprotect, image, size, PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        if (ELF64_ST_TYPE(symbols[i].st_info) != STT_FUNC || !symbols[i].st_value)
            continue;
        const struct entry_point *entry = entry_point(names + symbols[i].st_name);
        uint64_t at = symbols[i].st_value - linked_at;
        uint8_t *code = (uint8_t *)image + at;
        if (entry->box && (moved || config.flags & CONFIG_RECORDED)) {
            const char *host = moved ? moved + at : NULL;
            if (moved)
                memcpy(entry->host, &host, sizeof host);
            code_for_jump(code, entry->box);
        } else {
            code_for_call(code, entry->number);
        }
    }
    return KERNEL(SYS_mprotect, image, size, PROT_READ | PROT_EXEC) == 0;
}

/* Unmaps the pages, found by their names, in which the kernel keeps the time. */
static bool unmap_clock_page(const struct mapping *map, void *context)
{
    (void)context;
    return !strstr(map->name, "[vvar") || KERNEL(SYS_munmap, map->from, map->to - map->from) == 0;
}

/* The mappings of the vDSO and its data pages, which lie before it, as the kernel has laid them out. */
struct layout {
    struct {
        uint64_t from, to;
    } part[8];
    unsigned count;
};

static bool find_part(const struct mapping *map, void *context)
{
    struct layout *layout = context;
    if (!strstr(map->name, "[vvar") && !strstr(map->name, "[vdso]"))
        return true;
    if (layout->count == sizeof layout->part / sizeof *layout->part)
        return false;
    layout->part[layout->count].from = map->from;
    layout->part[layout->count++].to = map->to;
    return true;
}

/* Returns the address of `size` free bytes, after a page without access: no text of the program continues into them. */
static long free_place(uint64_t size)
{
    long place = KERNEL(SYS_mmap, 0, PAGE + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return place < 0 ? place : place + PAGE;
}

/* In a recorded box, later mappings get the same addresses as in records of earlier versions, whose boxes had the moved
 * vDSO there. */
static bool keep_addresses(void)
{
    struct layout layout = {.count = 0};
    return each_mapping(find_part, &layout) && layout.count &&
           free_place(layout.part[layout.count - 1].to - layout.part[0].from) > 0;
}

/* Moves the vDSO with its data pages, and maps a copy of its image where it was. Returns the image's new address; NULL
 * when that fails. The distances stay the same, because the vDSO finds its data pages by them. */
static const char *move_away(char *image)
{
    struct layout layout = {.count = 0};
    if (!each_mapping(find_part, &layout) || !layout.count)
        return NULL;
    uint64_t from = layout.part[0].from, to = layout.part[layout.count - 1].to, image_size = to - (uint64_t)image;
    if (layout.part[layout.count - 1].from != (uint64_t)image)
        return NULL; /* a kernel with another layout */
    long place = free_place(to - from);
    if (place < 0)
        return NULL;
    for (unsigned i = 0; i < layout.count; i++) {
        uint64_t at = layout.part[i].from, size = layout.part[i].to - at;
        if (KERNEL(SYS_mremap, at, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (uint64_t)place + (at - from)) < 0)
            return NULL;
    }
    unreadable_from = (const char *)place;
    long copy =
        KERNEL(SYS_mmap, image, image_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (copy != (long)image)
        return NULL;
    moved_vdso = (char *)place + ((uint64_t)image - from);
    moved_end = moved_vdso + image_size;
    unreadable_to = moved_vdso;
    memcpy(image, moved_vdso, image_size);
    return moved_vdso;
}

bool clocks_cover(void)
{
    char *image = (char *)getauxval(AT_SYSINFO_EHDR);
    const char *moved = image && (config.flags & CONFIG_HOST_CLOCKS) ? move_away(image) : NULL;
    if (moved)
        return patch_entry_points(image, moved);
    if (image && (config.flags & CONFIG_RECORDED) && !keep_addresses())
        return false;
    return !image || (patch_entry_points(image, NULL) && each_mapping(unmap_clock_page, NULL));
}

long counter_covers(void)
{
    return config.flags & CONFIG_REAL_TIME ? 0 : KERNEL(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV);
}

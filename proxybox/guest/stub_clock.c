/* Leaves the guest no clock but the box's: the vDSO's entry points become system calls, its data pages are unmapped,
 * and rdtsc faults.
 *
 * A guest whose time is not real still has two clocks: counting in a loop, and RDPID. limitations.md says so.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "stub.h"

static const struct {
    const char *name;
    int number;
} entry_points[] = {
    {"clock_gettime", SYS_clock_gettime}, {"gettimeofday", SYS_gettimeofday}, {"time", SYS_time},
    {"clock_getres", SYS_clock_getres},   {"getcpu", SYS_getcpu},             {"getrandom", SYS_getrandom},
};

static int number_of(const char *name)
{
    static const char prefix[] = "__vdso_"; /* each function has a second name without this prefix */
    if (!strncmp(name, prefix, sizeof prefix - 1))
        name += sizeof prefix - 1;
    for (size_t i = 0; i < sizeof entry_points / sizeof *entry_points; i++)
        if (!strcmp(name, entry_points[i].name))
            return entry_points[i].number;
    return 0xfff; /* a newer entry point: the controller does not know this number and answers ENOSYS */
}

/* Overwrites every function that the vDSO exports with a system call. */
static bool patch_entry_points(char *image)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
    const Elf64_Phdr *segment = (const Elf64_Phdr *)(image + header->e_phoff);
    const Elf64_Sym *symbols = NULL;
    const char *names = NULL;
    uint64_t size = 0, count = 0;
    for (int i = 0; i < header->e_phnum; i++) {
        if (segment[i].p_type == PT_LOAD)
            size = segment[i].p_vaddr + segment[i].p_memsz;
        if (segment[i].p_type != PT_DYNAMIC)
            continue;
        for (const Elf64_Dyn *entry = (const Elf64_Dyn *)(image + segment[i].p_vaddr); entry->d_tag != DT_NULL; entry++) {
            if (entry->d_tag == DT_SYMTAB)
                symbols = (const Elf64_Sym *)(image + entry->d_un.d_ptr);
            if (entry->d_tag == DT_STRTAB)
                names = image + entry->d_un.d_ptr;
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
        code_for_call((uint8_t *)image + symbols[i].st_value, number_of(names + symbols[i].st_name));
    }
    return KERNEL(SYS_mprotect, image, size, PROT_READ | PROT_EXEC) == 0;
}

/* Unmaps the pages, found by their names, in which the kernel keeps the time. */
static bool unmap_clock_page(const struct mapping *map, const void *context)
{
    (void)context;
    return !strstr(map->name, "[vvar") || KERNEL(SYS_munmap, map->from, map->to - map->from) == 0;
}

bool clocks_cover(void)
{
    char *image = (char *)getauxval(AT_SYSINFO_EHDR);
    bool covered = !image || (patch_entry_points(image) && each_mapping(unmap_clock_page, NULL));
    if (!(config.flags & CONFIG_REAL_TIME))
        covered &= KERNEL(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV) == 0;
    return covered;
}

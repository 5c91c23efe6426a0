/* What libFuzzer does, for compilers without it: runs inputs that are kept, and changes them as long as a change reaches
 * code that no other has. It takes libFuzzer's arguments, of which it needs a few:
 *
 *     stub-fuzz [-runs=N] [-max_total_time=SECONDS] [-seed=N] [-max_len=BYTES] [-artifact_prefix=FOLDER/] FOLDER|FILE...
 *
 * The first folder also gets what was learnt. An input that ends the process is in FOLDER/crash-N. With -choose=1 it only
 * tells the files that reach what none before them has reached.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { EDGES = 1 << 16, MOST = 1 << 15, LONGEST = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_set_death_callback(void (*callback)(void));
void __sanitizer_cov_trace_pc(void);

static uint8_t hit[EDGES];  /* how often in this execution */
static uint8_t seen[EDGES]; /* the bits of how often, of all executions */
static uintptr_t before;

/* The compiler calls this at each branch of the harness. */
void __sanitizer_cov_trace_pc(void)
{
    uintptr_t here = (uintptr_t)__builtin_return_address(0) * 0x9e3779b97f4a7c15u >> 48;
    uint8_t *edge = &hit[(here ^ before) % EDGES];
    *edge += *edge < 255;
    before = here >> 1;
}

static struct input {
    uint8_t *data;
    size_t size;
} kept[MOST];
static unsigned count;
static uint64_t executions, random_state = 1;
static bool chooses;
static const char *artifacts = "", *learnt;
static struct input now;

static uint64_t draw(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return below ? random_state % below : 0;
}

static void save(const char *start, uint64_t number, const struct input *what)
{
    char path[4096];
    snprintf(path, sizeof path, "%s%016" PRIx64, start, number);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, what->data, what->size) < 0)
        perror(path);
    close(fd);
}

static uint64_t digest(const struct input *what)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < what->size; i++)
        sum = (sum ^ what->data[i]) * 0x100000001b3u;
    return sum;
}

static void on_death(void)
{
    char start[2048];
    snprintf(start, sizeof start, "%scrash-", artifacts);
    save(start, digest(&now), &now);
}

static void on_alarm(int signal)
{
    (void)signal;
    abort(); /* it takes longer than any input may; the sanitizers do the rest */
}

/* Whether it has reached what no other has. */
static bool execute(const struct input *what)
{
    bool is_new = false;
    now = *what;
    memset(hit, 0, sizeof hit);
    before = 0;
    alarm(20);
    LLVMFuzzerTestOneInput(what->data, what->size);
    executions++;
    for (unsigned i = 0; i < EDGES; i++) {
        uint8_t often = chooses ? hit[i] != 0 : hit[i];
        uint8_t bit = often ? (uint8_t)(1 << (often < 4 ? often - 1 : often < 8 ? 3 : often < 16 ? 4 : often < 128 ? 5 : 6)) : 0;
        is_new |= (bit & ~seen[i]) != 0;
        seen[i] |= bit;
    }
    return is_new;
}

static void keep(const struct input *what)
{
    if (count == MOST)
        return;
    kept[count] = (struct input){malloc(what->size + 1), what->size};
    memcpy(kept[count].data, what->data, what->size);
    count++;
}

static void read_file(const char *path)
{
    static uint8_t data[LONGEST];
    int fd = open(path, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, data, sizeof data);
    close(fd);
    if (size < 0)
        return;
    uint8_t *exact = malloc((size_t)size + 1);
    memcpy(exact, data, (size_t)size);
    struct input what = {exact, (size_t)size};
    if (execute(&what)) {
        keep(&what);
        if (chooses)
            puts(path);
    }
    free(exact);
}

static void read_all(const char *path)
{
    struct dirent **names;
    int found = scandir(path, &names, NULL, alphasort);
    if (found < 0)
        read_file(path);
    else if (!learnt)
        learnt = path;
    for (int i = 0; i < found; i++) {
        char file[4096];
        snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        if (*names[i]->d_name != '.')
            read_file(file);
        free(names[i]);
    }
    if (found >= 0)
        free(names);
}

/* Moves the end of the input behind `at` by some bytes, and fills what is new from another input. */
static size_t resize(uint8_t *data, size_t size, size_t most, const struct input *other)
{
    size_t at = draw(size + 1), piece = 1 + draw(32);
    if (draw(2)) {
        piece = piece < size - at ? piece : size - at;
        memmove(data + at, data + at + piece, size - at - piece);
        return size - piece;
    }
    if (size + piece > most || piece > other->size)
        return size;
    memmove(data + at + piece, data + at, size - at);
    memcpy(data + at, other->data + draw(other->size - piece + 1), piece);
    return size + piece;
}

static size_t change(uint8_t *data, size_t size, size_t most)
{
    static const uint8_t telling[] = {0, 1, 2, 4, 8, 0x10, 0x40, 0x7f, 0x80, 0xfd, 0xfe, 0xff};
    const struct input *other = &kept[draw(count)];
    for (uint64_t changes = 1 + draw(6); changes; changes--) {
        size_t at = draw(size);
        switch (size ? draw(5) : 4) {
        case 0:
            data[at] ^= (uint8_t)(1 << draw(8));
            break;
        case 1:
            data[at] = telling[draw(sizeof telling)];
            break;
        case 2:
            data[at] = (uint8_t)draw(256);
            break;
        case 3:
            for (size_t i = at, from = draw(size), n = draw(9); n && i < size && from < size; n--)
                data[i++] = data[from++];
            break;
        default:
            size = resize(data, size, most, other);
        }
    }
    return size;
}

static void mutate(uint64_t runs, double seconds, size_t most)
{
    static uint8_t data[LONGEST];
    time_t end = time(NULL) + (time_t)seconds;
    while (executions < runs && (seconds == 0 || time(NULL) < end)) {
        const struct input *from = &kept[draw(count)];
        size_t size = from->size < most ? from->size : most;
        memcpy(data, from->data, size);
        size = change(data, size, most);
        uint8_t *exact = malloc(size + 1);
        memcpy(exact, data, size);
        struct input what = {exact, size};
        if (execute(&what)) {
            keep(&what);
            if (learnt) {
                char start[2048];
                snprintf(start, sizeof start, "%s/", learnt);
                save(start, digest(&what), &what);
            }
        }
        free(exact);
    }
}

int main(int argc, char **argv)
{
    uint64_t runs = UINT64_MAX;
    double seconds = 0;
    size_t most = 4096;
    __sanitizer_set_death_callback(on_death);
    signal(SIGALRM, on_alarm);
    for (int i = 1; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        if (*argv[i] != '-')
            continue;
        if (value && !strncmp(argv[i], "-runs=", 6) && value[1] != '-')
            runs = strtoull(value + 1, NULL, 10);
        else if (value && !strncmp(argv[i], "-max_total_time=", 16))
            seconds = atof(value + 1);
        else if (value && !strncmp(argv[i], "-seed=", 6))
            random_state = strtoull(value + 1, NULL, 10) * 0x9e3779b97f4a7c15u | 1;
        else if (value && !strncmp(argv[i], "-max_len=", 9))
            most = strtoull(value + 1, NULL, 10) < LONGEST ? strtoull(value + 1, NULL, 10) : LONGEST;
        else if (value && !strncmp(argv[i], "-artifact_prefix=", 17))
            artifacts = value + 1;
        else if (value && !strncmp(argv[i], "-choose=", 8))
            chooses = true;
    }
    for (int i = 1; i < argc; i++)
        if (*argv[i] != '-')
            read_all(argv[i]);
    if (chooses)
        return 0;
    if (!count)
        keep(&(struct input){(uint8_t[64]){0}, 64});
    mutate(runs, seconds, most);
    unsigned edges = 0;
    for (unsigned i = 0; i < EDGES; i++)
        edges += seen[i] != 0;
    printf("cov: %u ft: %u corp: %u/%u\nstat::number_of_executed_units: %" PRIu64 "\n", edges, edges, count, count, executions);
    return 0;
}

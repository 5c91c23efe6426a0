/* A stand-in for a PyPy translated with --sandbox: it speaks the same wire format (requests out on fd 1, commands in
 * on fd 0, last words on fd 2) and runs a program of statements in place of Python, so that a test says call by call
 * what the guest does, and can have it misbehave. Real ones take an hour to translate, and never lie.
 *
 * usage: client [-S -E ...] -c TEXT | -i | FILE [ARG...]     without any: the statements are read from fd 0
 *
 *     [-] [NAME =] CALL(ARGUMENTS)RESULT ARG...   prints `CALL VALUE` or `CALL -1 errno N`; after `-`, nothing
 *     [-] [NAME =] native N ARG...                a system call past the wire
 *     buffer NAME SIZE | show PLACE [COUNT] | text PLACE | string PLACE | texts PLACE | say WORDS | echo | args
 *     repeat N STATEMENT | startup HOME | exit N | print('WORDS')
 *     locale [NAME] | zone SECONDS               setlocale(3), tzset(3): of this libc's own, as real ones call it
 *     files                                      paths that its memory holds
 *     raw HEX... | half HEX... | close FD | spin | crash | abort | hoard | quiet | flood N | lie LENGTH
 *
 * ARG: 12, -0x1f, 0644, 1.5 for a double, "text\n\x00", NULL, @BUFFER, $KEPT; PLACE: a name of either, or @NAME, $NAME.
 * Both may have +OFFSET. `$home` is what _pypy_init_home answered. A `#` starts a comment line. A result of NULL is
 * printed with its errno too. `lie` is told once, to the next R or Z: after a length, at most 1 MiB of x follow.
 *
 * After its start it makes no system call of its own but read(0), write(1), write(2), those of malloc, and exit.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <langinfo.h>
#include <link.h>
#include <locale.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SIGNATURE = 255, MAX_ARGUMENTS = 32, MAX_NAMES = 256, WORD = 320, MOST_LIES = 1 << 20 };

#define P(pointer) ((uint64_t)(uintptr_t)(pointer))
#define MEMORY(address) ((char *)(uintptr_t)(address))
/* A call without arguments is given a 0 that is not sent. */
#define CALL(signature, ...) call(signature, (const uint64_t[]){__VA_ARGS__})

/* What a real build prints for RPY_SANDBOX_DUMP=1 lies in it in one piece, too; so does its sys.version. */
static const char dump[] =
    "Version: 20001\nPlatform: linux2\nFuncs: "
    "_exit(i)v _pypy_init_free(p)v _pypy_init_home()p access(pi)i chdir(p)i chmod(pi)i chown(pii)i chroot(p)i "
    "clock()i clock_getres(ip)i clock_gettime(ip)i clock_settime(ip)i close(i)i closedir(p)i confstr(ipi)i "
    "ctermid(p)p dirfd(p)i dup(i)i dup2(ii)i execv(pp)i execve(ppp)i faccessat(ipii)i fchdir(i)i fchmod(ii)i "
    "fchmodat(ipii)i fchown(iii)i fchownat(ipiii)i fdatasync(i)i fdopendir(i)p fexecve(ipp)i fgetxattr(ippi)i "
    "fileno(p)i flistxattr(ipi)i fork()i forkpty(pppp)i fpathconf(ii)i fremovexattr(ip)i fsetxattr(ippii)i "
    "fstat64(ip)i fstatat64(ippi)i fstatvfs(ip)i fsync(i)i ftruncate(ii)i futimens(ip)i get_environ()p "
    "get_stdout()p getcwd(pi)p getegid()i getenv(p)p geteuid()i getgid()i getgroups(ip)i getloadavg(pi)i "
    "getlogin()p getpgid(i)i getpgrp()i getpid()i getppid()i getpriority(ii)i getresgid(ppp)i getresuid(ppp)i "
    "getrusage(ip)i getsid(i)i gettimeofday(pp)i gettimeofday(pp)i getuid()i getxattr(pppi)i initgroups(pi)i "
    "ioctl(iip)i isatty(i)i kill(ii)i killpg(ii)i lchown(pii)i lgetxattr(pppi)i link(pp)i linkat(ipipi)i "
    "listxattr(ppi)i llistxattr(ppi)i lockf(iii)i lremovexattr(pp)i lseek(iii)i lsetxattr(pppii)i lstat64(pp)i "
    "mkdir(pi)i mkdirat(ipi)i mkfifo(pi)i mkfifoat(ipi)i mknod(pii)i mknodat(ipii)i nice(i)i open(pii)i "
    "openat(ipii)i opendir(p)p openpty(ppppp)i pathconf(pi)i pipe(p)i pipe2(pi)i posix_fadvise(iiii)i "
    "posix_fallocate(iii)i pread(ipii)i putenv(p)i pwrite(ipii)i pypy__allow_attach()v read(ipi)i readdir(p)p "
    "readlink(ppi)i readlinkat(ippi)i removexattr(pp)i rename(pp)i renameat(ipip)i rewinddir(p)v rmdir(p)i "
    "rpy_cpu_count()i rpy_dup2_noninheritable(ii)i rpy_dup_noninheritable(i)i rpy_get_inheritable(i)i "
    "rpy_get_status_flags(i)i rpy_set_inheritable(ii)i rpy_set_status_flags(ii)i sched_get_priority_max(i)i "
    "sched_get_priority_min(i)i sched_yield()i select(ipppp)i sendfile(iipi)i setegid(i)i seteuid(i)i setgid(i)i "
    "setgroups(ip)i setpgid(ii)i setpgrp()i setpriority(iii)i setregid(ii)i setresgid(iii)i setresuid(iii)i "
    "setreuid(ii)i setsid()i setuid(i)i setxattr(pppii)i stat64(pp)i statvfs(pp)i symlink(pp)i symlinkat(pip)i "
    "sync()v sysconf(i)i system(p)i tcgetpgrp(i)i tcsetpgrp(ii)i time(p)i time(p)i times(p)i ttyname(i)p "
    "umask(i)i uname(p)i unlink(p)i unlinkat(ipi)i unsetenv(p)i utimensat(ippi)i waitpid(ipi)i write(ipi)i\n";
const char client_version[] = "3.6.9 (the client, Jan 01 2020, 00:00:00)\n[PyPy 7.2.0 with a C compiler]";

/* --- the wire --- */

static uint64_t calls_made;
static int32_t call_errno;
static int lying;
static uint64_t lie_length;

static void last_words(const char *text, long number)
{
    char line[512];
    int length = snprintf(line, sizeof line, "%s %ld\n", text, number);
    if (write(2, line, (size_t)length) < 0)
        return; /* there is nobody left to tell */
}

static _Noreturn void broken(const char *text, long number)
{
    last_words(text, number);
    abort();
}

static void send_bytes(const void *from, size_t size)
{
    for (const char *at = from; size;) {
        ssize_t written = write(1, at, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && errno == EPIPE)
            _exit(0);
        if (written < 0)
            broken("sandbox: cannot write: errno", errno);
        at += written;
        size -= (size_t)written;
    }
}

static void receive(void *into, size_t size)
{
    for (char *at = into; size;) {
        ssize_t count = read(0, at, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            broken("sandbox: cannot read: errno", errno);
        if (count == 0)
            _exit(0); /* the controller has gone */
        at += count;
        size -= (size_t)count;
    }
}

static uint64_t receive_u64(void)
{
    uint64_t value;
    receive(&value, sizeof value);
    return value;
}

/* What a lie sends instead of the truth: not all of it when it is too much to send. */
static void send_lie(void)
{
    static char padding[4096];
    uint64_t left = lie_length < MOST_LIES ? lie_length : MOST_LIES;
    memset(padding, 'x', sizeof padding);
    for (lying = 0; left;) {
        size_t piece = left < sizeof padding ? left : sizeof padding;
        send_bytes(padding, piece);
        left -= piece;
    }
}

static void serve_read(void)
{
    uint64_t address = receive_u64(), size = receive_u64();
    if (lying)
        send_lie();
    else
        send_bytes(MEMORY(address), size);
}

static void serve_string(void)
{
    uint64_t address = receive_u64(), most = receive_u64(), length;
    if (lying) {
        send_bytes(&lie_length, sizeof lie_length);
        send_lie();
        return;
    }
    length = most == UINT64_MAX ? strlen(MEMORY(address)) : strnlen(MEMORY(address), most);
    send_bytes(&length, sizeof length);
    send_bytes(MEMORY(address), length);
}

static uint64_t serve_malloc(void)
{
    uint64_t size = receive_u64();
    void *memory = malloc(size);
    if (memory == NULL)
        broken("sandbox: out of memory for", (long)size);
    receive(memory, size);
    return P(memory);
}

/* Commands until the one that is the result, which must be of the type that was asked for. */
static uint64_t serve(char result)
{
    for (uint64_t address;;) {
        unsigned char command;
        receive(&command, 1);
        switch (command) {
        case 'R': serve_read(); break;
        case 'Z': serve_string(); break;
        case 'W':
            address = receive_u64();
            receive(MEMORY(address), receive_u64());
            break;
        case 'M':
            address = serve_malloc();
            send_bytes(&address, sizeof address);
            break;
        case 'F': free(MEMORY(receive_u64())); break;
        case 'E': receive(&call_errno, 4); break;
        case 'v':
        case 'i':
        case 'p':
        case 'f':
            if (command != result)
                broken("sandbox: wrong type of result, byte", command);
            return command == 'v' ? 0 : receive_u64();
        default: broken("sandbox: unknown command, byte", command);
        }
    }
}

static uint64_t call(const char *signature, const uint64_t *arguments)
{
    char request[1 + MAX_SIGNATURE + 8 * MAX_ARGUMENTS];
    size_t length = strlen(signature), size = 1 + length;
    request[0] = (char)length;
    memcpy(request + 1, signature, length);
    for (const char *type = strchr(signature, '(') + 1; *type != ')'; type++)
        if (*type != 'v') {
            memcpy(request + size, arguments++, 8);
            size += 8;
        }
    calls_made++;
    call_errno = 0;
    send_bytes(request, size);
    return serve(signature[length - 1]);
}

/* --- printing, and what is wrong with a program --- */

static int interactive, line_number;
static jmp_buf next_statement;

static void print_on(int fd, const char *text, size_t size)
{
    while (size) {
        int64_t written = (int64_t)CALL("write(ipi)i", (uint64_t)fd, P(text), size);
        if (written <= 0 || (uint64_t)written > size) {
            last_words("client: cannot print: errno", call_errno);
            _exit(1);
        }
        text += written;
        size -= (size_t)written;
    }
}

static void print(const char *text) { print_on(1, text, strlen(text)); }

static void *need(void *before, size_t size)
{
    void *memory = realloc(before, size);
    if (memory == NULL)
        broken("client: out of memory for", (long)size);
    return memory;
}

static void print_line(const char *text, size_t size)
{
    char *line = need(NULL, size + 1);
    memcpy(line, text, size);
    line[size] = '\n';
    print_on(1, line, size + 1);
    free(line);
}

/* As of an exception: said on the box's stderr, and the end of all but a prompt. */
static _Noreturn void fault(const char *what, const char *where)
{
    char line[512];
    snprintf(line, sizeof line, "client: line %d: %s: %.300s\n", line_number, what, where);
    print_on(2, line, strlen(line));
    if (interactive)
        longjmp(next_statement, 1);
    _exit(1);
}

/* --- words, names, arguments --- */

/* A buffer (its bits are the address), or a number that was kept. */
static struct thing {
    char name[WORD];
    uint64_t bits;
    size_t size;
} things[MAX_NAMES];
static int things_known;

/* The literals of the statement that is being run. */
static char *literals[MAX_ARGUMENTS];
static int literals_made;

static struct thing *find(const char *name, size_t length)
{
    for (int i = 0; i < things_known; i++)
        if (strlen(things[i].name) == length && memcmp(things[i].name, name, length) == 0)
            return &things[i];
    return NULL;
}

static void keep(const char *name, uint64_t bits, size_t size)
{
    struct thing *thing = find(name, strlen(name));
    if (thing == NULL && things_known == MAX_NAMES)
        fault("too many names", name);
    if (thing == NULL)
        thing = &things[things_known++];
    snprintf(thing->name, sizeof thing->name, "%s", name);
    thing->bits = bits;
    thing->size = size;
}

static const char *skip_blanks(const char *at) { return at + strspn(at, " \t\r"); }

/* The next word, empty at the end of the line. */
static void take(const char **cursor, char word[WORD])
{
    const char *at = skip_blanks(*cursor);
    size_t length = strcspn(at, " \t\r");
    if (length >= WORD)
        fault("too long a word", at);
    memcpy(word, at, length);
    word[length] = 0;
    *cursor = at + length;
}

static uint64_t number(const char *word)
{
    char *end;
    errno = 0;
    uint64_t value = *word == '-' ? (uint64_t)strtoll(word, &end, 0) : strtoull(word, &end, 0);
    if (*word == 0 || *end || errno)
        fault("not a number", word);
    return value;
}

static int hex_digit(char digit)
{
    const char *digits = "0123456789abcdef", *at = digit ? strchr(digits, digit | 0x20) : NULL;
    return at ? (int)(at - digits) : -1;
}

static char escaped(const char **cursor)
{
    char letter = *(*cursor)++;
    switch (letter) {
    case 'n': return '\n';
    case 't': return '\t';
    case '0': return 0;
    case '"':
    case '\\': return letter;
    case 'x':
        if (hex_digit((*cursor)[0]) < 0 || hex_digit((*cursor)[1]) < 0)
            break;
        *cursor += 2;
        return (char)(hex_digit((*cursor)[-2]) << 4 | hex_digit((*cursor)[-1]));
    default: break;
    }
    fault("not an escape", *cursor - 1);
}

static char *literal(const char **cursor)
{
    const char *at = *cursor + 1;
    char *text = need(NULL, strlen(at) + 1), *end = text;
    if (literals_made == MAX_ARGUMENTS)
        fault("too many strings", *cursor);
    literals[literals_made++] = text;
    while (*at != '"') {
        if (*at == 0)
            fault("a string without an end", *cursor);
        char byte = *at++;
        *end++ = byte == '\\' ? escaped(&at) : byte;
    }
    *end = 0;
    *cursor = at + 1;
    return text;
}

/* NAME or NAME+OFFSET; `known` is told which thing it was. */
static uint64_t reference(const char *word, struct thing **known)
{
    size_t length = strcspn(word, "+");
    struct thing *thing = find(word, length);
    if (thing == NULL)
        fault("not a known name", word);
    if (known)
        *known = thing;
    return thing->bits + (word[length] ? number(word + length + 1) : 0);
}

static uint64_t argument(const char **cursor, char type)
{
    char word[WORD], *end;
    *cursor = skip_blanks(*cursor);
    if (**cursor == '"')
        return P(literal(cursor));
    take(cursor, word);
    if (strcmp(word, "NULL") == 0)
        return 0;
    if (*word == '@' || *word == '$')
        return reference(word + 1, NULL);
    if (type == 'f') {
        double value = strtod(word, &end);
        uint64_t bits;
        if (*word == 0 || *end)
            fault("not a double", word);
        memcpy(&bits, &value, sizeof bits);
        return bits;
    }
    return number(word);
}

static uint64_t place(const char **cursor, struct thing **known)
{
    char word[WORD];
    take(cursor, word);
    return reference(word + (*word == '@' || *word == '$'), known);
}

/* --- statements --- */

/* How the statement began: whether its outcome is printed, and the name under which it is kept. */
static int silent;
static char kept_name[WORD];

static void show_outcome(const char *name, char type, uint64_t bits, int error)
{
    char line[WORD + 64];
    double value;
    int length = snprintf(line, sizeof line, "%s ", name), failed = type == 'i' ? bits == UINT64_MAX : bits == 0;
    char *at = line + length;
    size_t room = sizeof line - (size_t)length;
    if (*kept_name)
        keep(kept_name, bits, 0);
    if (silent)
        return;
    memcpy(&value, &bits, sizeof value);
    switch (type) {
    case 'i': length = snprintf(at, room, "%lld", (long long)bits); break;
    case 'p': length = snprintf(at, room, bits ? "0x%llx" : "NULL", (unsigned long long)bits); break;
    case 'f': length = snprintf(at, room, "%.17g", value); break;
    default: length = snprintf(at, room, "void"); break;
    }
    if (failed && (type == 'i' || type == 'p'))
        snprintf(at + length, room - (size_t)length, " errno %d", error);
    print_line(line, strlen(line));
}

static void run_call(const char *signature, const char *rest)
{
    uint64_t arguments[MAX_ARGUMENTS + 1] = {0};
    size_t open = strcspn(signature, "("), close = strcspn(signature, ")"), count = 0, length = strlen(signature);
    char name[WORD];
    if (open > close || length != close + 2 || strchr("ipfv", signature[close + 1]) == NULL || length > MAX_SIGNATURE)
        fault("not a signature", signature);
    for (size_t i = open + 1; i < close; i++) {
        if (strchr("ipfv", signature[i]) == NULL || count == MAX_ARGUMENTS)
            fault("not a signature", signature);
        if (signature[i] != 'v')
            arguments[count++] = argument(&rest, signature[i]);
    }
    if (*skip_blanks(rest))
        fault("too many arguments", rest);
    memcpy(name, signature, open);
    name[open] = 0;
    uint64_t value = call(signature, arguments);
    show_outcome(name, signature[close + 1], value, call_errno);
}

static void run_native(const char *rest)
{
    long a[7] = {0};
    for (int i = 0; i < 7 && (i == 0 || *skip_blanks(rest)); i++)
        a[i] = (long)argument(&rest, 'i');
    errno = 0;
    long value = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    show_outcome("native", 'i', (uint64_t)value, errno);
}

static void run_buffer(const char *rest)
{
    char name[WORD];
    take(&rest, name);
    size_t size = argument(&rest, 'i');
    keep(name, P(memset(need(NULL, size + 1), 0, size + 1)), size);
}

static void run_show(const char *rest)
{
    struct thing *thing;
    const unsigned char *from = (const unsigned char *)MEMORY(place(&rest, &thing));
    size_t count = *skip_blanks(rest) ? argument(&rest, 'i') : thing->size;
    char *text = need(NULL, 2 * count + 1);
    for (size_t i = 0; i < count; i++)
        snprintf(text + 2 * i, 3, "%02x", from[i]);
    print_line(text, 2 * count);
    free(text);
}

/* No further than to the end of a buffer, which may hold no NUL. */
static void run_text(const char *rest)
{
    struct thing *thing;
    uint64_t address = place(&rest, &thing);
    size_t room = thing->size ? thing->size - (size_t)(address - thing->bits) : SIZE_MAX / 2;
    print_line(MEMORY(address), strnlen(MEMORY(address), room));
}

static void run_texts(const char *rest)
{
    char *const *array = (char *const *)(uintptr_t)place(&rest, NULL);
    for (; array && *array; array++)
        print_line(*array, strlen(*array));
}

/* fd 0 of the box, of which a read may bring more than a line. */
static struct {
    char bytes[4096];
    size_t at, end;
} input;

static int fill_input(int fd)
{
    int64_t count = (int64_t)CALL("read(ipi)i", (uint64_t)fd, P(input.bytes), sizeof input.bytes);
    if (count < 0 || (uint64_t)count > sizeof input.bytes) {
        last_words("client: cannot read: errno", call_errno);
        _exit(1);
    }
    input.at = 0;
    input.end = (size_t)count;
    return count > 0;
}

/* A line with its newline, or what is left before the end; NULL at the end. The caller frees it. */
static char *read_line(size_t *size)
{
    char *line = NULL;
    *size = 0;
    while ((*size == 0 || line[*size - 1] != '\n') && (input.at < input.end || fill_input(0))) {
        const char *from = input.bytes + input.at, *newline = memchr(from, '\n', input.end - input.at);
        size_t piece = newline ? (size_t)(newline - from) + 1 : input.end - input.at;
        line = need(line, *size + piece + 1);
        memcpy(line + *size, from, piece);
        *size += piece;
        line[*size] = 0;
        input.at += piece;
    }
    return line;
}

static void run_echo(void)
{
    size_t size;
    for (char *line; (line = read_line(&size)); free(line))
        print_on(1, line, size);
}

static char **program_words;

static void run_args(void)
{
    for (char **word = program_words; *word; word++)
        print_line(*word, strlen(*word));
}

/* What it is now called, its encoding, and how many characters two bytes of UTF-8 are there. */
static void run_locale(const char *rest)
{
    char name[WORD], line[2 * WORD];
    take(&rest, name);
    const char *set = setlocale(LC_ALL, name);
    snprintf(line, sizeof line, "locale %s %s %d", set ? set : "NULL", nl_langinfo(CODESET),
             (int)mbstowcs(NULL, "\xc3\xa9", 0));
    print_line(line, strlen(line));
}

static void run_zone(const char *rest)
{
    time_t when = (time_t)argument(&rest, 'i');
    char line[WORD];
    tzset();
    print_line(line, strftime(line, sizeof line, "zone %H:%M %Z", localtime(&when)));
}

/* What the kernel and the loader have left in memory of where it comes from. */
static int print_file(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    (void)data;
    print_line(info->dlpi_name, strlen(info->dlpi_name));
    return 0;
}

static void run_files(const char *rest)
{
    const char *program = MEMORY(getauxval(AT_EXECFN));
    (void)rest;
    print_line(program, strlen(program));
    dl_iterate_phdr(print_file, NULL);
}

/* What PyPy's collector says and does when it gets no more. */
static _Noreturn void hoard(void)
{
    for (char *more; (more = malloc(1 << 20)); memset(more, 1, 1 << 20))
        ;
    static const char words[] = "out of memory: couldn't allocate the next arena\n";
    if (write(2, words, sizeof words - 1) < 0)
        _exit(1);
    abort();
}

/* --- misbehaviour --- */

static void run_raw(const char *rest)
{
    unsigned char *bytes = need(NULL, strlen(rest) + 1);
    size_t size = 0;
    for (; *(rest = skip_blanks(rest)); rest += 2) {
        if (hex_digit(rest[0]) < 0 || hex_digit(rest[1]) < 0)
            fault("not hex", rest);
        bytes[size++] = (unsigned char)(hex_digit(rest[0]) << 4 | hex_digit(rest[1]));
    }
    send_bytes(bytes, size);
    free(bytes);
}

static void run_flood(uint64_t left)
{
    static char flood[65536];
    memset(flood, 'x', sizeof flood);
    for (uint64_t piece; left; left -= piece) {
        piece = left < sizeof flood ? left : sizeof flood;
        print_on(1, flood, piece);
    }
}

/* Whether it was a misbehaviour. */
static int misbehave(const char *name, const char *rest)
{
    volatile char *volatile nowhere = NULL;
    char byte;
    if (strcmp(name, "raw") == 0) {
        run_raw(rest);
    } else if (strcmp(name, "half") == 0) {
        run_raw(rest);
        _exit(0);
    } else if (strcmp(name, "close") == 0) {
        close((int)argument(&rest, 'i'));
    } else if (strcmp(name, "spin") == 0) {
        for (;;)
            __asm__ volatile("");
    } else if (strcmp(name, "crash") == 0) {
        *nowhere = 1;
    } else if (strcmp(name, "abort") == 0) {
        abort();
    } else if (strcmp(name, "hoard") == 0) {
        hoard();
    } else if (strcmp(name, "quiet") == 0) {
        for (;;)
            receive(&byte, 1);
    } else if (strcmp(name, "flood") == 0) {
        run_flood(argument(&rest, 'i'));
    } else if (strcmp(name, "lie") == 0) {
        lie_length = argument(&rest, 'i');
        lying = 1;
    } else {
        return 0;
    }
    return 1;
}

/* --- the start of a PyPy --- */

enum { ROUNDS = 24, FOLDERS = 4 };

static const char *const modules[ROUNDS] = {
    "__future__", "_collections_abc", "_sitebuiltins", "_weakrefset", "abc", "bisect", "codecs", "copyreg",
    "enum", "functools", "genericpath", "heapq", "io", "keyword", "locale", "operator",
    "os", "posixpath", "reprlib", "site", "stat", "sysconfig", "types", "warnings",
};
static char path[4096];
static char block[8192];

static uint64_t below(const char *home, const char *folder, const char *name, const char *ending)
{
    snprintf(path, sizeof path, "%s/%s%s%s%s", home, folder, *name ? "/" : "", name, ending);
    return P(path);
}

/* How many of `total` calls fall to one of `parts` rounds. */
static int share(int total, int round, int parts) { return total * (round + 1) / parts - total * round / parts; }

static void ask_environment(int count)
{
    while (count--)
        CALL("getenv(p)p", P("PYPY_GC_NURSERY"));
}

/* A folder that is not there is asked for as often in other ways: the number of calls stays the same. */
static void list_folder(const char *home, const char *folder, int entries)
{
    uint64_t stream = CALL("opendir(p)p", below(home, folder, "", ""));
    if (stream == 0)
        entries++;
    while (entries--)
        stream ? CALL("readdir(p)p", stream) : CALL("stat64(pp)i", below(home, folder, "", ""), P(block));
    if (stream)
        CALL("closedir(p)i", stream);
}

/* Looks for a module in two folders, finds and reads it: a 24th of the calls that importing makes. */
static void import_module(const char *home, int round)
{
    static const char *const endings[] = {"", ".pypy36-pp73-x86_64-linux-gnu.so", ".so", ".py", ".pyc", "/__init__.py"};
    const char *name = modules[round];
    uint64_t fd = UINT64_MAX;
    for (int i = share(113, round, ROUNDS); i > 0; i--)
        CALL("gettimeofday(pp)i", P(block), 0);
    for (int i = share(146, round, ROUNDS); i > 0; i--)
        CALL("stat64(pp)i", below(home, i % 2 ? "lib-python/3" : "lib_pypy", name, endings[i % 6]), P(block));
    for (int i = share(49, round, ROUNDS); i > 0; i--)
        fd = CALL("open(pii)i", below(home, i > 1 ? "lib_pypy" : "lib-python/3", name, ".py"), 0, 0666);
    for (int i = share(75, round, ROUNDS); i > 0; i--)
        CALL("fstat64(ip)i", fd, P(block));
    for (int i = share(54, round, ROUNDS); i > 0; i--)
        CALL("lseek(iii)i", fd, 0, 1);
    for (int i = share(48, round, ROUNDS); i > 0; i--)
        CALL("read(ipi)i", fd, P(block), sizeof block);
    CALL("close(i)i", fd);
    for (int i = share(12, round, ROUNDS); i > 0; i--)
        CALL("mkdir(pi)i", below(home, "lib-python/3", "__pycache__", ""), 0777);
}

static void run_startup(const char *rest)
{
    char word[WORD];
    const char *home = word;
    if (strchr("\"$@", *skip_blanks(rest)))
        home = MEMORY(argument(&rest, 'p'));
    else
        take(&rest, word);
    uint64_t before = calls_made;
    ask_environment(1);
    CALL("uname(p)i", P(block));
    ask_environment(5);
    CALL("open(pii)i", below(home, "lib_pypy", "pyvenv", ".cfg"), 0, 0666);
    ask_environment(2);
    CALL("gettimeofday(pp)i", P(block), 0);
    for (int i = 0; i < 3; i++)
        CALL("lstat64(pp)i", below(home, i ? "lib_pypy" : "lib-python/3", "", ""), P(block));
    CALL("get_environ()p", 0);
    CALL("time(p)i", 0);
    for (int round = 0; round < ROUNDS; round++) {
        int part = round * FOLDERS / ROUNDS;
        if (round * FOLDERS % ROUNDS == 0)
            list_folder(home, part % 2 ? "lib_pypy" : "lib-python/3", share(454, part, FOLDERS));
        import_module(home, round);
    }
    ask_environment(3);
    CALL("geteuid()i", 0);
    CALL("getuid()i", 0);
    CALL("getegid()i", 0);
    CALL("getgid()i", 0);
    CALL("access(pi)i", below(home, "lib-python/3", "site-packages", ""), 4);
    for (uint64_t i = 0; i < 9; i++)
        CALL("isatty(i)i", i % 3);
    print("42");
    print("\n");
    int length = snprintf(block, sizeof block, "startup %llu", (unsigned long long)(calls_made - before));
    print_line(block, (size_t)length);
}

/* --- running a program --- */

static const struct {
    const char *name;
    void (*run)(const char *rest);
} statements[] = {
    {"native", run_native}, {"buffer", run_buffer}, {"show", run_show},       {"text", run_text},
    {"string", run_text},   {"texts", run_texts},   {"startup", run_startup}, {"locale", run_locale},
    {"zone", run_zone},     {"files", run_files},
};

static void run_named(const char *name, const char *rest)
{
    rest = skip_blanks(rest);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (strcmp(statements[i].name, name) == 0) {
            statements[i].run(rest);
            return;
        }
    if (strcmp(name, "say") == 0)
        print_line(rest, strlen(rest));
    else if (strcmp(name, "echo") == 0)
        run_echo();
    else if (strcmp(name, "args") == 0)
        run_args();
    else if (strcmp(name, "exit") == 0)
        _exit((int)argument(&rest, 'i'));
    else if (!misbehave(name, rest))
        fault("not a statement", name);
}

static void run_statement(const char *line)
{
    char word[WORD], sign[WORD];
    while (literals_made)
        free(literals[--literals_made]);
    line = skip_blanks(line);
    silent = *line == '-';
    line = skip_blanks(line + silent);
    if (*line == 0 || *line == '#')
        return;
    take(&line, word);
    *kept_name = 0;
    if (strncmp(skip_blanks(line), "= ", 2) == 0) {
        strcpy(kept_name, word);
        take(&line, sign);
        take(&line, word);
    }
    if (strncmp(word, "print('", 7) == 0)
        print_line(word + 7, strcspn(word + 7, "'"));
    else if (strcmp(word, "repeat") == 0)
        for (uint64_t left = argument(&line, 'i'); left; left--)
            run_statement(line);
    else if (strchr(word, '('))
        run_call(word, line);
    else
        run_named(word, line);
}

static void run_program(char *text)
{
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        line_number++;
        run_statement(line);
    }
}

static void run_input(int prompts)
{
    size_t size;
    interactive = prompts;
    (void)setjmp(next_statement);
    for (char *line;;) {
        if (prompts)
            print(">>>> ");
        if ((line = read_line(&size)) == NULL)
            return;
        line[strcspn(line, "\n")] = 0;
        line_number++;
        run_statement(line);
        free(line);
    }
}

static void run_file(const char *name)
{
    char *text = need(NULL, 1);
    size_t size = 0;
    *text = 0;
    uint64_t fd = CALL("open(pii)i", P(name), 0, 0666);
    if (fd == UINT64_MAX)
        fault("cannot open", name);
    while (fill_input((int)fd)) {
        text = need(text, size + input.end + 1);
        memcpy(text + size, input.bytes, input.end);
        size += input.end;
        text[size] = 0;
    }
    CALL("close(i)i", fd);
    run_program(text);
}

/* --- the start --- */

static void find_home(void)
{
    uint64_t home = CALL("_pypy_init_home()p", 0);
    if (home == 0)
        return;
    size_t size = strlen(MEMORY(home)) + 1;
    char *copy = need(NULL, size);
    memcpy(copy, MEMORY(home), size);
    keep("home", P(copy), 0);
    CALL("_pypy_init_free(p)v", home);
}

int main(int argc, char **argv)
{
    const char *asked = getenv("RPY_SANDBOX_DUMP");
    if (asked && strcmp(asked, "1") == 0) {
        send_bytes(dump, strlen(dump));
        _exit(0);
    }
    find_home();
    int at = 1;
    while (at < argc && argv[at][0] == '-' && argv[at][1] && argv[at][1] != 'c' && argv[at][1] != 'i')
        at++;
    program_words = argv + at;
    if (at == argc || strcmp(argv[at], "-") == 0)
        run_input(0);
    else if (strcmp(argv[at], "-i") == 0)
        run_input(1);
    else if (strcmp(argv[at], "-c") == 0 && at + 1 < argc)
        run_program(argv[at + 1]);
    else if (argv[at][0] == '-')
        fault("not an option", argv[at]);
    else
        run_file(argv[at]);
    _exit(0);
}

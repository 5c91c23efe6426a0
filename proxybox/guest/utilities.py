"""Small commands for boxes without other programs: `python -c SOURCE NAME ARGUMENT...` runs one of TABLE.

They are what POSIX calls utilities (https://pubs.opengroup.org/onlinepubs/9799919799/idx/utilities.html), with the
options that programs for agents use, and with the messages and exit statuses of GNU's. They run in a box, with the
rights of its programs, and import only modules that the interpreter has loaded anyway: so a file of the box cannot
replace one of their modules.
"""

import sys

if __name__ == "__main__":
    del sys.path[:1]  # the working directory
import errno
import os
import stat

PIECE = 1 << 16


class UtilityFailed(Exception):
    """Ends a command with a message and a status of 1."""


def options(arguments, known):
    """Returns the options, as a set of letters, and the operands. known: the letters that the command takes."""
    found = set()
    while arguments and len(arguments[0]) > 1 and arguments[0][0] == "-":
        word = arguments[0]
        if word == "--":
            return found, arguments[1:]
        wrong = [letter for letter in word[1:] if letter not in known] or (["-"] if word.startswith("--") else [])
        if wrong:
            raise UtilityFailed("invalid option -- '%s'" % (word if word.startswith("--") else wrong[0]))
        found.update(word[1:])
        arguments = arguments[1:]
    return found, arguments


class Utility:
    """The common part of all commands: their streams, and whether one of their operands has failed."""

    def __init__(self, name):
        self.name, self.status = name, 0
        self.out = sys.stdout.buffer

    def complain(self, text):
        sys.stdout.flush()
        sys.stderr.write("%s: %s\n" % (self.name, text))
        self.status = 1

    def each(self, work, operands, words):
        """Calls `work` with each operand. words: the message for a failed operand, before the system's own message."""
        for operand in operands:
            try:
                work(operand)
            except OSError as error:
                self.complain("%s: %s" % (words % operand, os.strerror(error.errno)))


def needed(operands):
    if not operands:
        raise UtilityFailed("missing operand")
    return operands


def rm(self, arguments):
    flags, operands = options(arguments, "rRfdv")
    deep = flags & {"r", "R"}

    def remove(path):
        if os.path.basename(path.rstrip("/")) in (".", "..") or not path.strip("/"):
            return self.complain("refusing to remove '%s'" % path)
        try:
            is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        except FileNotFoundError:
            if "f" in flags:
                return None
            raise
        if not is_folder:
            return os.unlink(path)
        if deep:
            return empty(path)
        if "d" in flags:
            return os.rmdir(path)
        raise IsADirectoryError(errno.EISDIR, "")

    def empty(top):
        """Removes a folder of any depth: without recursion, and only with names in the current folder."""
        start = os.open(".", os.O_RDONLY)
        try:
            os.chdir(top)
            left, names = [unlinked()], []
            while left:
                if left[-1]:
                    names.append(left[-1].pop())
                    os.chdir(names[-1])
                    left.append(unlinked())
                    continue
                left.pop()
                if left:
                    os.chdir("..")
                    os.rmdir(names.pop())
        finally:
            os.fchdir(start)
            os.close(start)
        os.rmdir(top)

    def unlinked():
        """Removes the files of the current folder, and returns the names of its folders."""
        folders = []
        for name in os.listdir("."):
            if stat.S_ISDIR(os.lstat(name).st_mode):
                folders.append(name)
            else:
                os.unlink(name)
        return folders

    self.each(remove, operands if "f" in flags else needed(operands), "cannot remove '%s'")


def mkdir(self, arguments):
    mode = None
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        mode, arguments = changed_mode(arguments[1], 0o777, True), arguments[2:]
    flags, operands = options(arguments, "pv")

    def make(path):
        if "p" in flags:
            os.makedirs(path, exist_ok=True)
        else:
            os.mkdir(path)
        if mode is not None:
            os.chmod(path, mode)

    self.each(make, needed(operands), "cannot create directory '%s'")


def rmdir(self, arguments):
    _, operands = options(arguments, "v")
    self.each(os.rmdir, needed(operands), "failed to remove '%s'")


def pieces(path):
    """Yields the content of a file, or of standard input, in pieces."""
    with open(0 if path == "-" else path, "rb", buffering=0, closefd=path != "-") as file:
        piece = file.read(PIECE)
        while piece:
            yield piece
            piece = file.read(PIECE)


def cat(self, arguments):
    _, operands = options(arguments, "u")

    def show(path):
        for piece in pieces(path):
            self.out.write(piece)

    self.each(show, operands or ["-"], "%s")


def ls(self, arguments):
    flags, operands = options(arguments, "1aAdl")

    def line(folder, name):
        if "l" not in flags:
            return name
        import time

        found = os.lstat(os.path.join(folder, name))
        moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.st_mtime))
        mode = stat.filemode(found.st_mode)
        return "%s %d %d %d %8d %s %s" % (
            mode, found.st_nlink, found.st_uid, found.st_gid, found.st_size, moment, name,
        )  # fmt: skip

    def look(path):
        if "d" in flags or not stat.S_ISDIR(os.stat(path).st_mode):
            print(line("", path))
        else:
            folders.append(path)

    def show(path):
        names = os.listdir(path)
        if "a" in flags:
            names += [".", ".."]
        elif "A" not in flags:
            names = [name for name in names if not name.startswith(".")]
        for name in sorted(names):
            print(line(path, name))

    folders = []
    self.each(look, sorted(operands) or ["."], "cannot access '%s'")
    for at, path in enumerate(folders):
        if len(operands) > 1:
            print("%s%s:" % ("\n" if at or len(operands) > len(folders) else "", path))
        self.each(show, [path], "cannot open directory '%s'")


def touch(self, arguments):
    flags, operands = options(arguments, "cam")

    def touched(path):
        try:
            os.utime(path)
        except FileNotFoundError:
            if "c" not in flags:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))

    self.each(touched, needed(operands), "cannot touch '%s'")


CLAUSE = r"([ugoa]*)((?:[-+=][rwxX]*)+)"
CHANGE = r"([-+=])([rwxX]*)"


def changed_mode(text, mode, is_folder):
    """Returns a file's new mode by chmod's first operand."""
    import re

    if re.match(r"[0-7]{1,4}\Z", text):
        return int(text, 8)
    umask = os.umask(0)
    os.umask(umask)
    for clause in text.split(","):
        match = re.fullmatch(CLAUSE, clause)
        if match is None:
            raise UtilityFailed("invalid mode: '%s'" % text)
        who = match.group(1)
        places = {"u": 0o700, "g": 0o070, "o": 0o007}
        mask = sum(places[one] for one in set(who) if one != "a") if who and "a" not in who else 0o777
        for sign, letters in re.findall(CHANGE, match.group(2)):
            bits = sum({"r": 0o444, "w": 0o222, "x": 0o111}.get(one, 0) for one in set(letters))
            if "X" in letters and (is_folder or mode & 0o111):
                bits |= 0o111
            bits &= mask if who else ~umask
            if sign == "+":
                mode |= bits
            elif sign == "-":
                mode &= ~bits
            else:
                mode = mode & ~mask | bits
    return mode


def chmod(self, arguments):
    deep = "-R" in arguments[:1]
    operands = arguments[deep:]
    if operands[:1] == ["--"]:
        operands = operands[1:]
    if len(operands) < 2:
        raise UtilityFailed("missing operand")
    how = operands[0]
    changed_mode(how, 0, False)  # reports errors in it before anything is changed

    def change(path):
        found = os.stat(path)
        os.chmod(path, changed_mode(how, stat.S_IMODE(found.st_mode), stat.S_ISDIR(found.st_mode)))
        if deep and stat.S_ISDIR(found.st_mode):
            for folder, folders, files in os.walk(path):
                for each in folders + files:
                    below = os.path.join(folder, each)
                    seen = os.lstat(below)
                    if not stat.S_ISLNK(seen.st_mode):
                        os.chmod(below, changed_mode(how, stat.S_IMODE(seen.st_mode), stat.S_ISDIR(seen.st_mode)))

    self.each(change, operands[1:], "cannot access '%s'")


ESCAPE = rb"(?s)\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))"
LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"\\": b"\\"}
DIRECTIVE = rb"%(?:%|([-+ 0#]*)(\d*)(?:\.(\d+))?([diouxXcsbeEfFgG]))"
#: The largest width of a field, and precision of a number.
WIDEST = 1 << 16


def unescaped(data):
    import re

    def one(match):
        octal, hexadecimal, letter = match.groups()
        if octal or hexadecimal:
            return bytes([int(octal or hexadecimal, 8 if octal else 16) & 255])
        return LETTERS.get(letter, match.group())

    return re.sub(ESCAPE, one, data)


def printf(self, arguments):
    import re

    if not arguments:
        raise UtilityFailed("missing operand")
    form, left = os.fsencode(arguments[0]), [os.fsencode(each) for each in arguments[1:]]

    def number(text):
        try:
            return int(text or b"0", 0)
        except ValueError:
            self.complain("'%s': expected a numeric value" % os.fsdecode(text))
            return 0

    def filled(match):
        if match.group() == b"%%":
            return b"%"
        flags, width, precision, kind = match.groups()
        if int(width or b"0") > WIDEST or int(precision or b"0") > WIDEST:
            raise UtilityFailed("%s: a field that is too wide" % os.fsdecode(match.group()))
        used.append(kind)
        value = left.pop(0) if left else b""
        head = b"%" + flags + width + (b"" if precision is None else b"." + precision)
        if kind in b"sb":
            return (head + b"s") % (unescaped(value) if kind == b"b" else value)
        if kind == b"c":
            return (b"%" + flags + width + b"s") % value[:1]
        if kind in b"diouxX":
            return (head + (b"d" if kind in b"iu" else kind)) % number(value)
        try:
            return (head + kind) % float(value or b"0")
        except ValueError:
            self.complain("'%s': expected a numeric value" % os.fsdecode(value))
            return (head + kind) % 0.0

    # each part of the format is read once for escapes; arguments are not
    parts, at = [], 0
    for match in re.finditer(DIRECTIVE, form):
        parts += [unescaped(form[at : match.start()]), match]
        at = match.end()
    parts.append(unescaped(form[at:]))
    wrong = re.search(rb"%.?", re.sub(DIRECTIVE, b"", form), re.DOTALL)
    if wrong:
        raise UtilityFailed("%s: invalid conversion specification" % os.fsdecode(wrong.group()))
    while True:
        used = []
        for part in parts:
            self.out.write(part if isinstance(part, bytes) else filled(part))
        if not used or not left:
            return


def wc(self, arguments):
    flags, operands = options(arguments, "clwm")
    kinds = [kind for kind in "lwmc" if kind in flags] or ["l", "w", "c"]
    totals = dict.fromkeys("lwmc", 0)

    def count(path):
        found, inside = dict.fromkeys("lwmc", 0), False
        for piece in pieces(path):
            found["c"] += len(piece)
            found["l"] += piece.count(b"\n")
            found["m"] += sum(byte & 0xC0 != 0x80 for byte in piece) if "m" in kinds else 0
            if "w" in kinds:
                found["w"] += len(piece.split()) - (inside and not piece[:1].isspace())
                inside = not piece[-1:].isspace()
        for kind in totals:
            totals[kind] += found[kind]
        show(found, path if operands else "")

    def show(found, name):
        numbers = [str(found[kind]) for kind in kinds]
        print(" ".join(numbers if len(kinds) == 1 else ["%7s" % each for each in numbers]) + (name and " " + name))

    self.each(count, operands or ["-"], "%s")
    if len(operands) > 1:
        show(totals, "total")


def sleep(self, arguments):
    import re
    import time

    seconds = 0.0
    for each in needed(arguments):
        match = re.match(r"(\d+\.?\d*|\.\d+)([smhd]?)\Z", each)
        if match is None:
            raise UtilityFailed("invalid time interval '%s'" % each)
        seconds += float(match.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match.group(2)]
    time.sleep(min(seconds, 1e9))


def whoami(self, arguments):
    if arguments:
        raise UtilityFailed("extra operand '%s'" % arguments[0])
    import pwd

    print(pwd.getpwuid(os.getuid()).pw_name)


TABLE = {each.__name__: each for each in (rm, mkdir, rmdir, cat, ls, touch, chmod, printf, wc, sleep, whoami)}


def main(name, arguments):
    command = Utility(name)
    try:
        TABLE[name](command, arguments)
    except UtilityFailed as error:
        command.complain(error)
    sys.stdout.flush()
    return command.status


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="surrogateescape")
    sys.exit(main(sys.argv[1], sys.argv[2:]))

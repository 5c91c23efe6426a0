"""Files, folders, links and permissions."""

import errno
import os
import stat
import tempfile


def attempt(action, *args, **options):
    try:
        return action(*args, **options)
    except OSError as error:
        return errno.errorcode[error.errno]


def show(name, *values):
    print(f"{name}:", *values)


os.umask(0o022)
os.chdir(tempfile.mkdtemp())

# Opening
for flags in ("r", "r+", "x", "x", "w", "a", "rb"):
    file = attempt(open, "a.txt", flags)
    show(f"open {flags}", file if isinstance(file, str) else "opened")
    if not isinstance(file, str):
        if "b" not in flags and flags != "r":
            file.write(flags)
        file.close()
show("content", repr(open("a.txt").read()))
show("too long", attempt(open, "x" * 256), attempt(open, "y/" * 2048 + "z"))
show("empty name", attempt(open, ""))
show("no folder", attempt(open, "a.txt/b"), attempt(open, "none/b", "w"))
show("folder", attempt(open, "."), attempt(open, ".", "w"), attempt(os.open, ".", os.O_RDONLY | os.O_DIRECTORY) > 2)
show("O_DIRECTORY", attempt(os.open, "a.txt", os.O_DIRECTORY))

# Offsets, holes, truncation
fd = os.open("holes", os.O_RDWR | os.O_CREAT)
show("write past end", os.pwrite(fd, b"end", 10000), os.fstat(fd).st_size, os.read(fd, 4), os.pread(fd, 9, 9998))
show("seek", os.lseek(fd, -3, os.SEEK_END), os.read(fd, 9), os.read(fd, 9), attempt(os.lseek, fd, -1, os.SEEK_SET))
os.ftruncate(fd, 5)
show("truncate", os.fstat(fd).st_size, os.pread(fd, 99, 0), attempt(os.truncate, "holes", -1))
copy = os.dup(fd)
os.lseek(copy, 2, os.SEEK_SET)
show("shared offset", os.lseek(fd, 0, os.SEEK_CUR), os.get_inheritable(fd), os.get_inheritable(copy))
show("write", os.write(fd, b"abcd"), os.pread(fd, 99, 0), attempt(os.read, fd, 0))
os.close(copy)
os.close(fd)
show("closed", attempt(os.read, fd, 1), attempt(os.close, fd))
first, second = (open("log", "a") for _ in range(2))
for file in (first, second, first):
    print("line", file=file, flush=True)
show("append", os.path.getsize("log"))
readonly = os.open("log", os.O_RDONLY)
show("modes", attempt(os.write, readonly, b"x"), attempt(os.read, first.fileno(), 1))
os.close(readonly)

# Unlinked and renamed while open
with open("gone", "w+") as file:
    os.unlink("gone")
    file.write("still here")
    file.flush()
    file.seek(0)
    show("unlinked", file.read(), os.fstat(file.fileno()).st_nlink, os.path.exists("gone"))
with open("old", "w") as file:
    os.rename("old", "new")
    file.write("moved")
show("renamed", open("new").read(), os.path.exists("old"))
os.replace("a.txt", "new")
show("replaced", open("new").read())

# Folders
os.makedirs("d/e/f")
open("d/e/f/file", "w").close()
show("rmdir", attempt(os.rmdir, "d/e"), attempt(os.rmdir, "d/e/f/file"), attempt(os.unlink, "d"))
show("mkdir", attempt(os.mkdir, "d"), attempt(os.mkdir, "q/q"), attempt(os.mkdir, "d/e/"), attempt(os.rmdir, "d/e/f/."))
show("rename folder", attempt(os.rename, "d", "d/e/g"), attempt(os.rename, "d/e", "d/h"), sorted(os.listdir("d")))
show("rename over", attempt(os.rename, "new", "d"), attempt(os.rename, "d", "new"), os.mkdir("empty"), attempt(os.rename, "d", "empty"))
show("links of folders", os.stat("empty").st_nlink, os.stat("empty/h").st_nlink)
os.chdir("empty/h/f")
show("cwd", os.path.relpath(os.getcwd(), "../../.."), sorted(os.listdir("../../..")))
os.chdir("../../..")
with os.scandir(".") as entries:
    show("scandir", sorted((e.name, e.is_dir(), e.is_file(), e.is_symlink()) for e in entries))

# Links
os.symlink("new", "soft")
os.symlink("soft", "softer")
os.symlink("loop", "loop")
os.symlink("nowhere", "dangling")
os.link("new", "hard")
show("links", os.readlink("softer"), open("softer").read() == open("new").read(), os.stat("hard").st_nlink)
show("same", os.path.samefile("hard", "softer"), os.stat("hard").st_ino == os.stat("new").st_ino)
show("loops", attempt(open, "loop"), attempt(open, "dangling"), attempt(os.readlink, "new"))
show("link kinds", stat.S_ISLNK(os.lstat("soft").st_mode), os.lstat("softer").st_size, os.path.islink("dangling"))
show("nofollow", attempt(os.open, "soft", os.O_RDONLY | os.O_NOFOLLOW), attempt(os.link, "empty", "no"))
with open("dangling", "w") as file:
    file.write("through a link")
show("made", open("nowhere").read(), attempt(os.open, "dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
os.unlink("soft")
show("softer now", attempt(os.stat, "softer"), os.path.lexists("softer"))
os.symlink("empty/h", "way")
show("through", os.listdir("way"), os.path.realpath("way/../h") == os.path.realpath("empty/h"), attempt(os.rmdir, "way"))

# Permissions
os.chmod("new", 0o000)
show("unreadable", attempt(open, "new"), os.access("new", os.R_OK), os.access("new", os.F_OK))
os.chmod("new", 0o400)
show("read-only", attempt(open, "new", "w"), os.access("new", os.W_OK), open("new").read() != "")
os.chmod("new", 0o4755)
show("mode", oct(os.stat("new").st_mode))
os.chmod("empty", 0o500)
show("folder r-x", attempt(open, "empty/x", "w"), attempt(os.mkdir, "empty/x"), attempt(os.rename, "empty/h", "h"), os.listdir("empty"))
os.chmod("empty", 0o600)
show("folder rw-", os.listdir("empty"), attempt(os.stat, "empty/h"), attempt(os.chdir, "empty"))
os.chmod("empty", 0o300)
show("folder -wx", attempt(os.listdir, "empty"), os.path.isdir("empty/h"))
os.chmod("empty", 0o755)
show("chown", attempt(os.chown, "new", 0, 0), attempt(os.chown, "new", os.getuid(), -1))
show("umask", oct(os.umask(0o077)), oct(os.open("private", os.O_CREAT, 0o666) and os.stat("private").st_mode))

# Times
os.utime("new", ns=(1_000_000_001, 2_000_000_002))
os.utime("softer", (5, 6), follow_symlinks=False)
show("times", os.stat("new").st_atime_ns, os.stat("new").st_mtime_ns, os.lstat("softer").st_mtime)
before = os.stat("private").st_mtime_ns
os.utime("private")
show("now", os.stat("private").st_mtime_ns >= before)

# By descriptor
folder = os.open("empty", os.O_RDONLY)
os.mkdir("made", dir_fd=folder)
os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
show("dir_fd", sorted(os.listdir(folder)), stat.S_ISREG(os.stat("file", dir_fd=folder).st_mode), attempt(os.stat, "..none", dir_fd=folder))
os.rename("file", "moved", src_dir_fd=folder)
os.fchdir(folder)
show("fchdir", os.path.basename(os.getcwd()), os.path.exists("../moved"))
os.rmdir("made")
show("filesystem", os.statvfs(".").f_namemax, os.fpathconf(folder, "PC_NAME_MAX"))
show("sync", os.fsync(folder), os.posix_fallocate(fd := os.open("../moved", os.O_RDWR), 0, 100), os.fstat(fd).st_size)
show("sent", os.sendfile(os.open("../copy", os.O_CREAT | os.O_WRONLY), fd, 0, 60), os.path.getsize("../copy"))

"""PyPy translated with --sandbox as a guest: the guest of these boxes is the conforming client (translated/client.c).

The client makes the calls of its program as such a PyPy would, and also calls that no PyPy makes.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import proxybox
from proxybox import AsyncPool, AsyncSandbox, Pool, Result, Sandbox, SandboxStartError, Status, cli
from proxybox.controller import OSCall, find_guest
from proxybox.controller.guests.translated import libc
from proxybox.controller.guests.translated.channel import TranslatedChannel
from proxybox.diagnosis import guests
from tests.guests.conftest import at_its_prompt, on_a_terminal, until

Run = Callable[..., Result]


def load_build() -> Any:
    path = Path(__file__).parent / "translated" / "build.py"
    spec = importlib.util.spec_from_file_location("translated_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A made-up PyPy: the client in the layout of a build, its library, and a secret that the guest must not see."""
    root = Path(tempfile.mkdtemp(prefix="translated-"))  # not in pytest's own folder, which guests cannot enter
    root.chmod(0o755)
    shutil.move(load_build().client(root), root / "pypy3-c")
    for name in ("lib-python/3/os.py", "lib-python/3/encodings/utf_8.py", "lib_pypy/_functools.py", "secret.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n" * 40)
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def pypy(home: Path) -> str:
    return str(home / "pypy3-c")


@pytest.fixture
def run(pypy: str) -> Run:
    """Runs statements of the client in a box."""

    def work(program: str, *, stdin: Any = None, files: Any = None, **policy: Any) -> Result:
        policy.setdefault("limits", {"wall_time": 120})
        with Sandbox(guest=pypy, **policy) as box:
            return box.run(program, stdin=stdin, files=files)

    return work


def answers(result: Result) -> list[str]:
    assert result.status is Status.OK, result
    return result.stdout.splitlines()


# --- the list of calls ------------------------------------------------------------------------------------------------


def functions(pypy: str) -> tuple[str, ...]:
    return find_guest(pypy).functions


def test_every_function_is_answered_or_refused_with_a_reason(pypy: str) -> None:
    seen = functions(pypy)
    assert len(seen) == 157
    kinds = (set(libc.SAME), set(libc.FUNCTIONS), set(libc.REFUSED))
    assert set().union(*kinds) == set(seen)
    assert sum(map(len, kinds)) == len(seen), "none is in two"
    assert all(number and why for number, why in libc.REFUSED.values())


def test_every_function_is_called(run: Run, pypy: str) -> None:
    """All arguments are NULL and 0: no answer is ENOSYS, none is a breach, and the box goes on after each call."""
    lines = ["buffer zero 16"]
    for each in functions(pypy):
        name, kinds = each.split("(")[0], each[each.index("(") + 1 : each.rindex(")")]
        words = {"p": "NULL", "i": "0", "f": "0.0"}
        given = " ".join(words[kind] for kind in kinds if kind in words)
        if name == "select":
            given = "0 NULL NULL NULL @zero"
        if name not in ("_exit", "close"):  # these end the guest
            lines.append(f"{each} {given}")
    result = run("\n".join(lines))
    seen = answers(result)
    assert [line.split()[0] for line in seen] == [line.split("(")[0] for line in lines[1:]]
    assert not [line for line in seen if line.endswith("errno 38")]
    assert result.unknown_calls == {}
    refused = {denial.call for denial in result.denials}
    assert {each.split("(")[0] for each in libc.REFUSED} <= refused


def test_a_function_of_no_list(run: Run) -> None:
    result = run('socket(iii)i 2 1 0\ndlopen(p)p "x"\nsin(f)f 1.0\nnothing(v)v')
    assert answers(result) == ["socket -1 errno 38", "dlopen NULL errno 38", "sin -1", "nothing void"]
    assert {(each.call, each.reason) for each in result.denials} == {
        ("socket", "socket(iii)i is not known"), ("dlopen", "dlopen(p)p is not known"),
        ("sin", "sin(f)f is not known"), ("nothing", "nothing(v)v is not known"),
    }  # fmt: skip


def test_refusals_end_the_box_where_the_policy_says_so(run: Run) -> None:
    result = run('system(p)i "ls"\nsay on', on_denied="end")
    assert (result.status, result.why, result.stdout) == (Status.DENIED, "system: a box has one process", "")


# --- what it sees -----------------------------------------------------------------------------------------------------


def test_identity_and_environment(run: Run) -> None:
    result = run(
        'getuid()i\ngetpid()i\nh = getenv(p)p "HOME"\nstring $h\ngetenv(p)p "SECRET"\n'
        '-putenv(p)i "A=1"\na = getenv(p)p "A"\nstring $a\nunsetenv(p)i "A"\ngetenv(p)p "A"\n'
        "-e = get_environ()p\ntexts $e\n"
        "rpy_cpu_count()i\nsysconf(i)i 84\nstring $home",
        environment={"variables": {"EXTRA": "yes"}, "cpu_count": 3},
    )
    seen = answers(result)
    assert seen[:2] == ["getuid 1000", "getpid 100"]
    assert "/home/user" in seen
    assert "getenv NULL errno 0" in seen
    assert "EXTRA=yes" in seen
    assert seen[-3:] == ["rpy_cpu_count 3", "sysconf 3", "/usr/lib/pypy/pypy-c"]
    assert not [line for line in seen if line.startswith("LD_PRELOAD")]


def test_where_it_stands_on_the_host_is_not_to_be_found_in_its_memory(run: Run, home: Path) -> None:
    seen = answers(run("files"))
    assert [path for path in seen if "pypy3-c" in path] == ["/usr/lib/pypy/pypy3-c", "/usr/lib/pypy/libpypy3-c.so"]
    assert not [path for path in seen if str(home) in path]


def test_variables_that_it_sets(run: Run) -> None:
    """No variable is truncated or lost without an error, and the stored variables are bounded."""
    long = "a" * 100_000
    lines = [f'-putenv(p)i "X={long}"', 'x = getenv(p)p "X"', "string $x", f'putenv(p)i "Y={long}{long}"']
    lines += [f'putenv(p)i "L{number}={long}"' for number in range(10)]
    lines += [f'-unsetenv(p)i "L{number}"' for number in range(10)]
    for number in range(1100):  # the next value replaces the stored one
        lines += [f'-putenv(p)i "N={number}"', '-n = getenv(p)p "N"']
    lines += ["string $n", *(f'putenv(p)i "V{number}=1"' for number in range(1024))]
    seen = answers(run("\n".join(lines)))
    assert seen[1:3] == [long, "putenv -1 errno 12"]
    assert seen[3:13] == ["putenv 0"] * 9 + ["putenv -1 errno 12"]
    assert seen[13] == "1099"
    assert seen[14:] == ["putenv 0"] * 1022 + ["putenv -1 errno 12"] * 2  # X and N are stored, too


@pytest.mark.parametrize(
    ("environment", "seen"),
    [
        ({}, "C.UTF-8 UTF-8 1"),
        ({"locale": "C"}, "C ANSI_X3.4-1968 -1"),
        ({"locale": "C", "variables": {"LC_ALL": "C.UTF-8"}}, "C.UTF-8 UTF-8 1"),
        ({"variables": {"LC_ALL": "../../../../../usr/lib/locale/C.utf8"}}, "NULL ANSI_X3.4-1968 -1"),
    ],
)
def test_its_locale(run: Run, monkeypatch: pytest.MonkeyPatch, environment: dict[str, Any], seen: str) -> None:
    """The locale is that of the guest's own variables, never the host's. Its libc opens the files before the seal."""
    monkeypatch.setenv("LC_ALL", "POSIX")
    lines = answers(run("locale\nlocale C.UTF-8\nlocale C", environment=environment))
    assert lines == [f"locale {seen}", "locale C.UTF-8 UTF-8 1", "locale C ANSI_X3.4-1968 -1"]


@pytest.mark.skipif(not os.path.exists("/usr/share/zoneinfo/Europe/Berlin"), reason="the host has no time zones")
@pytest.mark.parametrize(
    ("variables", "seen"),
    [
        ({}, ["00:00 UTC", "09:46 UTC"]),
        ({"TZ": "Europe/Berlin"}, ["01:00 CET", "11:46 CEST"]),
        ({"TZ": ":Europe/Berlin", "TZDIR": "/nowhere"}, ["01:00 CET", "11:46 CEST"]),
        ({"TZ": "XYZ-3"}, ["03:00 XYZ", "12:46 XYZ"]),
        ({"TZ": ""}, ["00:00 UTC", "09:46 UTC"]),
        ({"TZ": ":/usr/share/zoneinfo/Europe/Berlin"}, ["01:00 CET", "11:46 CEST"]),
        ({"TZ": "{home}/zone"}, ["00:00 ", "09:46 "]),  # a path of the host
        ({"TZ": "Asia/../Europe/Berlin"}, ["00:00 Asia", "09:46 Asia"]),
    ],
)
def test_its_time_zone(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], seen: list[str]
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    shutil.copy("/usr/share/zoneinfo/Europe/Berlin", home / "zone")
    given = {name: text.format(home=home) for name, text in variables.items()}
    result = run("zone 0\nzone 1720000000", environment={"variables": given})
    assert answers(result) == [f"zone {each}" for each in seen]


def test_its_library_and_nothing_beside_it(run: Run) -> None:
    result = run(
        'open(pii)i "/usr/lib/pypy/lib-python/3/os.py" 0 0\nbuffer b 64\nread(ipi)i 3 @b 20\ntext b\n'
        'access(pi)i "/usr/lib/pypy/lib_pypy/_functools.py" 4\naccess(pi)i "/usr/lib/pypy/secret.txt" 4\n'
        'open(pii)i "/usr/lib/pypy/lib-python/3/os.py" 1 0\naccess(pi)i "/etc/shadow" 0\naccess(pi)i "/usr/bin/pypy" 1'
    )
    assert answers(result) == [
        "open 3", "read 20", "# lib-python/3/os.py", "access 0", "access -1 errno 2", "open -1 errno 30",
        "access -1 errno 2", "access 0",
    ]  # fmt: skip


LIST = """
d = opendir(p)p "{path}"
repeat 6 readdir(p)p $d
string $d+19
rewinddir(p)v $d
readdir(p)p $d
string $d+19
dirfd(p)i $d
closedir(p)i $d
"""


def test_folders(run: Run) -> None:
    seen = answers(run(LIST.format(path="/usr/lib/pypy")))
    assert [re.sub("0x[0-9a-f]+", "DIR", line) for line in seen] == [
        "opendir DIR", *["readdir DIR"] * 5, "readdir NULL errno 0", "pypy-c", "rewinddir void", "readdir DIR", ".",
        "dirfd 3", "closedir 0",
    ]  # fmt: skip


def test_pointers_that_are_no_folder(run: Run) -> None:
    lines = [f"{name} {at}" for name in ("readdir(p)p", "closedir(p)i", "dirfd(p)i", "rewinddir(p)v")
             for at in ("NULL", "1", "0xffffffffffffffff", "$home")]  # fmt: skip
    seen = answers(run("\n".join(lines) + '\nopendir(p)p "/etc/passwd"\nopendir(p)p "/nowhere"\nfdopendir(i)p 0'))
    assert {line.rsplit(" ", 1)[1] for line in seen[:8]} == {"9"}
    assert seen[-3:] == ["opendir NULL errno 20", "opendir NULL errno 2", "fdopendir NULL errno 20"]


def test_folders_without_end(run: Run) -> None:
    """The guest uses one descriptor with new pointers all the time: the number of stored ones is bounded."""
    seen = answers(run('d = open(pii)i "/" 0x10000 0\nrepeat 1100 fdopendir(i)p $d\nopen(pii)i "/" 0x10000 0'))
    assert [line.endswith("errno 12") for line in seen[1:-1]].count(True) == 1100 - 1024


def test_what_is_kept_of_many_folders(pypy: str) -> None:
    """Entries that were read but not yet requested are bounded."""
    rooms: list[int] = []

    def look(call: OSCall) -> None:
        if call.name == "getdents64":
            rooms.append(call.arguments["count"])

    program = 'f = open(pii)i "/" 0x10000 0\n' + "-d = fdopendir(i)p $f\n-readdir(p)p $d\n" * 200
    with Sandbox(guest=pypy, audit=look) as box:
        answers(box.run(program))
    assert len(rooms) == 200
    assert (rooms[0], max(rooms[32:])) == (32768, 1024)


def test_long_calls_are_made_in_turns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing, or reserving space for a file, may take many turns: other boxes are served between them."""
    at_once: list[str] = []
    call = TranslatedChannel._call
    monkeypatch.setattr(TranslatedChannel, "_call", lambda self, it: at_once.append(it.name) or call(self, it))
    seen = answers(run(LIST.format(path="/") + 'f = open(pii)i "f" 0x42 0600\nposix_fallocate(iii)i $f 0 10'))
    assert seen[-1] == "posix_fallocate 0"
    assert "close" in at_once
    assert {"open", "getdents64", "fallocate"}.isdisjoint(at_once)


def test_a_folder_that_is_used_after_its_end(run: Run) -> None:
    seen = answers(run('d = opendir(p)p "/"\nclosedir(p)i $d\nreaddir(p)p $d\nclosedir(p)i $d'))
    assert seen[1:] == ["closedir 0", "readdir NULL errno 9", "closedir -1 errno 9"]


def test_relative_paths_heed_the_working_folder(run: Run) -> None:
    result = run(
        'buffer b 64\ngetcwd(pi)p @b 64\ntext b\nchdir(p)i "/usr/lib"\nopen(pii)i "pypy/lib-python/3/os.py" 0 0\n'
        "getcwd(pi)p @b 64\ntext b\ngetcwd(pi)p @b 4"
    )
    seen = answers(result)
    assert (seen[1], seen[2], seen[3], seen[5]) == ("/box", "chdir 0", "open 3", "/usr/lib")
    assert seen[6] == "getcwd NULL errno 34"


@pytest.mark.parametrize("audit", [None, lambda call: None], ids=["alone", "observed"])
def test_paths_below_a_folder_that_is_open(pypy: str, audit: Callable[[OSCall], object] | None) -> None:
    """openat and fstatat, which the stub of other guests also makes by other numbers."""
    program = (
        'd = open(pii)i "/usr/lib" 0x10000 0\nbuffer s 144\nbuffer t 16\nfstatat64(ippi)i $d "pypy" @s 0\nshow s+24 4\n'
        'f = openat(ipii)i $d "pypy/lib-python/3/os.py" 0 0\nread(ipi)i $f @t 12\ntext t\n'
        'fstatat64(ippi)i -100 "/nowhere" @s 0\nfaccessat(ipii)i $d "pypy/lib_pypy" 0 0\n'
        'openat(ipii)i -100 "new" 0x42 0600'
    )
    with Sandbox(guest=pypy, audit=audit) as box:
        seen = answers(box.run(program))
    assert seen == [
        "open 3", "fstatat64 0", "ed410000", "openat 4", "read 12", "# lib-python", "fstatat64 -1 errno 2",
        "faccessat 0", "openat 5",
    ]  # fmt: skip


def test_long_paths_are_an_error_and_not_cut(run: Run) -> None:
    path, longest = "a/" * 2047 + "a", "./" * 2000 + "box.txt"
    seen = answers(run(f'access(pi)i "{path}b" 0\naccess(pi)i "{longest}" 0', files={"box.txt": "x"}))
    assert seen == ["access -1 errno 36", "access 0"]


def test_paths_that_are_no_text(run: Run) -> None:
    result = run(
        'open(pii)i "b\\xff\\x80" 0x41 0644\nclose(i)i 3\naccess(pi)i "b\\xff\\x80" 0\nd = opendir(p)p "."\n'
        'repeat 4 -readdir(p)p $d\nshow d+19 4\nrename(pp)i "b\\xff\\x80" "c\\xfe"'
    )
    seen = answers(result)
    assert (seen[:3], seen[-1]) == (["open 3", "close 0", "access 0"], "rename 0")
    assert [os.fsencode(name) for name in result.files] == [b"c\xfe"]


@pytest.mark.parametrize("to", [(-5, 0), (0, 9), (-(2**63), 1), (2**63 - 1, 2), (0, -1)])
def test_bad_seeks(run: Run, to: tuple[int, int]) -> None:
    seen = answers(run(f'open(pii)i "/etc/passwd" 0 0\nlseek(iii)i 3 {to[0]} {to[1]}\nlseek(iii)i 99 0 0\nsay on'))
    assert re.fullmatch(r"lseek -1 errno (22|75)", seen[1])
    assert seen[2:] == ["lseek -1 errno 9", "on"]


def test_lengths_without_bound(run: Run) -> None:
    """A read returns less. A write beyond the guest's buffer crashes the guest, and takes no memory of the
    controller.
    """
    result = run('open(pii)i "/dev/zero" 0 0\nbuffer b 2000000\nread(ipi)i 3 @b 0x3fffffffffffffff\nread(ipi)i 3 @b -1')
    assert answers(result)[1:] == ["read 1048576", "read 1048576"]
    ended = run("buffer b 16\nwrite(ipi)i 1 @b 0x7fffffffffffffff")
    assert ended.status in (Status.CRASHED, Status.ERROR, Status.MISBEHAVED)
    assert len(ended.stdout) <= 1 << 20


def test_select_and_pipes(run: Run) -> None:
    seen = answers(run(
        'buffer p 8\nbuffer sets 128\nbuffer soon 16\npipe(p)i @p\nwrite(ipi)i 4 "x" 1\n-buffer bits 128\n'
        "select(ipppp)i 0 NULL NULL NULL @soon\nrpy_get_inheritable(i)i 3\nrpy_set_inheritable(ii)i 3 0\n"
        "rpy_get_inheritable(i)i 3\nrpy_dup_noninheritable(i)i 3\nrpy_get_status_flags(i)i 3\nfpathconf(ii)i 3 5"
    ))  # fmt: skip
    assert seen == [
        "pipe 0", "write 1", "select 0", "rpy_get_inheritable 1", "rpy_set_inheritable 0", "rpy_get_inheritable 0",
        "rpy_dup_noninheritable 5", "rpy_get_status_flags 0", "fpathconf 4096",
    ]  # fmt: skip


def test_structures(run: Run) -> None:
    """struct stat and struct statvfs, as glibc has them."""
    seen = answers(
        run('buffer s 144\nstat64(pp)i "main.py" @s\nshow s+48 8\nbuffer v 112\nstatvfs(pp)i "/" @v\nshow v+80 8')
    )
    assert seen[0] == "stat64 0"
    assert int.from_bytes(bytes.fromhex(seen[1]), "little") > 50  # st_size
    assert seen[2:] == ["statvfs 0", "ff00000000000000"]  # f_namemax


# --- policies ---------------------------------------------------------------------------------------------------------

WRITE = 'open(pii)i "new.txt" 0x41 0644\nwrite(ipi)i 3 "hello" 5\nclose(i)i 3\nmkdir(pi)i "d" 0755'


def test_writing_where_the_policy_allows_it(
    run: Run, pypy: str, tmp_path: Path, open_the_way: Callable[[Path], None]
) -> None:
    result = run(WRITE)
    assert answers(result) == ["open 3", "write 5", "close 0", "mkdir 0"]
    assert result.files["new.txt"] == b"hello"
    script = tmp_path / "writes"
    script.write_text(WRITE)
    open_the_way(script)
    with Sandbox(guest=pypy, filesystem={"box": "ro"}) as box:
        refused = box.run(script)
    assert answers(refused) == ["open -1 errno 30", "write -1 errno 9", "close -1 errno 9", "mkdir -1 errno 30"]
    assert refused.denials


def test_its_standard_streams(run: Run) -> None:
    result = run('echo\nwrite(ipi)i 2 "oops\\n" 5\nisatty(i)i 0', stdin="one\ntwo\n")
    assert answers(result) == ["one", "two", "write 5", "isatty 0"]
    assert result.stderr == "oops\n"


def test_calls_that_wait(pypy: str) -> None:
    """Calls that wait for the caller's input, for a time, and for a signal that never comes."""
    read, write = os.pipe()

    def answer(text: str) -> None:
        if "ready" in text:
            os.write(write, b"late\n")
            os.close(write)

    with os.fdopen(read, "rb") as given, Sandbox(guest=pypy, limits={"wall_time": 200}) as box:
        result = box.run("buffer soon 16\nsay ready\necho\n" + SLEEP, stdin=given, on_stdout=answer)
        waits = box.run("buffer p 8\n-pipe(p)i @p\nread(ipi)i 3 @p 8", timeout=0.3)
    assert answers(result)[:2] == ["ready", "late"]
    assert answers(result)[-1] == "select 0"
    assert waits.status is Status.TIME_LIMIT


#: select(2) with a time of 20 ms.
SLEEP = 'buffer t 16\n-f = open(pii)i "t" 0x42 0600\n-write(ipi)i $f "\\0\\0\\0\\0\\0\\0\\0\\0\\x20\\x4e" 10\n' + (
    "-lseek(iii)i $f 0 0\n-read(ipi)i $f @t 10\nselect(ipppp)i 0 NULL NULL NULL @t"
)


def test_virtual_time(run: Run) -> None:
    policy = {"time": {"kind": "virtual", "start": "2026-01-02T03:04:05Z"}}
    first, second = (
        answers(run("time(p)i NULL\nbuffer t 16\ngettimeofday(pp)i @t NULL\nshow t 16", **policy)) for _ in "12"
    )
    assert first == second
    assert first[0] == "time 1767323045"


@pytest.mark.parametrize(
    ("program", "policy", "status"),
    [
        ("spin", {"wall_time": 0.3}, Status.TIME_LIMIT),
        ("quiet", {"wall_time": 0.3}, Status.TIME_LIMIT),
        ("spin", {"cpu_time": 0.2}, Status.TIME_LIMIT),
        ("repeat 1000 -getuid()i", {"calls": 200}, Status.CALL_LIMIT),
        ("crash", {}, Status.CRASHED),
        ("exit 7", {}, Status.ERROR),
        ("_exit(i)v 7", {}, Status.ERROR),
    ],
)
def test_ends(run: Run, program: str, policy: dict[str, Any], status: Status) -> None:
    result = run(program, limits=policy)
    assert result.status is status, result
    if status is Status.ERROR:
        assert result.exit_code == 7


def test_limits_of_output_and_memory(run: Run) -> None:
    flood = run("flood 100000", output={"limit": 1000})
    assert (len(flood.stdout), flood.truncated) == (1000, True)
    ended = run("flood 100000", output={"limit": 1000, "on_excess": "end"})
    assert ended.status is Status.OUTPUT_LIMIT
    assert run("buffer b 300000000\nsay got it", limits={"memory": "64M"}).stdout == ""
    assert run("buffer b 300000000\nsay got it", limits={"memory": "1G"}).stdout == "got it\n"


@pytest.mark.parametrize("program", ["abort", "native 234 1 1 6", "native 62 1 6", "native 200 1 6"])
def test_an_abort_is_told_as_one(run: Run, program: str) -> None:
    """abort(3) sends SIGABRT to its own process by a system call that the seal refuses."""
    result = run(program)
    assert (result.status, result.signal, result.stderr) == (Status.CRASHED, 6, "")
    assert answers(run("native 234 1 1 15\nsay on")) == ["native -1 errno 38", "on"]


def test_the_end_of_its_memory(run: Run) -> None:
    """PyPy reports that it has no memory left, and a program crashes after using it up."""
    result = run("hoard", limits={"memory": "64M"})
    assert (result.status, result.why, result.signal) == (Status.MEMORY_LIMIT, "limits.memory", 6)
    assert result.stderr == "out of memory: couldn't allocate the next arena\n"
    said = 'write(ipi)i 2 "out of memory: no.\\n" 19\ncrash'  # written by its program; it did not end that way
    assert run(said).status is Status.CRASHED
    for words in (
        "sandbox: command M: failed to allocate 99 bytes",
        "RPython traceback:\\nFatal RPython error: MemoryError",
    ):
        assert run(f'native 1 2 "{words}\\n" {len(words)}\nabort').status is Status.MEMORY_LIMIT, words


@pytest.mark.parametrize("program", ["exit 0", "_exit(i)v 0", "crash", "abort", "hoard", "spin"])
def test_how_much_memory_it_has_used(run: Run, program: str) -> None:
    result = run(program, limits={"memory": "64M", "wall_time": 1 if program == "spin" else 60})
    if not result.layers["namespaces"].startswith("missing") or program == "_exit(i)v 0":
        assert result.usage.memory is not None
        assert (50_000_000 if program == "hoard" else 1_000_000) < result.usage.memory < 150_000_000


def test_interrupts_end_it(pypy: str) -> None:
    """The guest has no signal handlers."""
    with Sandbox(guest=pypy) as box:
        seen: list[str] = []

        def heard(text: str) -> None:
            seen.append(text)
            box.interrupt()

        result = box.run("say begun\nspin", on_stdout=heard)
    assert (result.status, result.signal, seen) == (Status.CRASHED, 2, ["begun\n"])


# --- the seal ---------------------------------------------------------------------------------------------------------

#: open, socket, clone, fork, execve, kill, ptrace, openat, process_vm_readv, io_uring_setup, pidfd_open, dup, close,
#: read and write by the numbers of the stub's descriptors, read(5), prctl, seccomp, rt_sigaction, mmap of a file.
NATIVE = (
    "2 $home 0 0", "41 2 1 0", "56 17 0", "57", "59 $home 0 0", "62 1 9", "101 0 0", "257 -100 $home 0", "310 1 0",
    "425 8 0", "434 1 0", "32 0", "3 0", "0 3 @b 1", "1 4 @b 1", "0 5 @b 1", "0 1 @b 1", "1 0 @b 1", "157 4 1",
    "317 1 0 0", "13 11 0 0", "9 0 4096 3 2 0 0", "511 1 2 3",
)  # fmt: skip


@pytest.mark.parametrize("layers", [None, ()], ids=["with layers", "without"])
def test_nothing_else_reaches_the_kernel(
    run: Run, monkeypatch: pytest.MonkeyPatch, layers: tuple[str, ...] | None
) -> None:
    if layers is not None:
        monkeypatch.setattr("proxybox.controller.seal.layers.USED", layers)
    result = run("buffer b 16\n" + "\n".join(f"native {each}" for each in NATIVE) + "\nsay alive")
    assert answers(result) == [*["native -1 errno 38"] * len(NATIVE), "alive"]
    assert result.layers["seal"].startswith("a seccomp filter")
    if layers is None:
        assert "empty root" in result.layers["namespaces"]


def test_what_is_its_own_is_let_through(run: Run) -> None:
    seen = answers(
        run("a = native 9 0 8192 3 0x22 -1 0\nb = native 25 $a 8192 65536 1\nnative 28 $b 4096 4\nnative 24")
    )
    assert [line.split()[1] == "-1" for line in seen] == [False] * 4


# --- guests that break the wire ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        "raw 00", "raw 0561626364", "half 05", "half 0661282969", "raw 0461282969 00", "raw ffff", "lie -1\nsay x",
        "lie 5000\nsay x", 'lie -1\naccess(pi)i "x" 0', 'lie 4097\naccess(pi)i "x" 0',
        "raw 0a6765747569642829690a6765747569642829", "raw 0a67657475696428296900",
    ],
)  # fmt: skip
def test_misbehaviour_ends_its_own_box(run: Run, program: str) -> None:
    result = run(program, limits={"wall_time": 60})
    assert result.status is Status.MISBEHAVED, result
    assert answers(run("say on")) == ["on"]


def test_last_words_are_told(run: Run) -> None:
    """The Result has what the guest writes to its own descriptor 2, as it does for fatal errors."""
    seen = run('buffer b 8\nnative 1 2 "sandbox: fatal\\n" 15\nexit 3')
    assert (seen.exit_code, seen.stderr) == (3, "sandbox: fatal\n")
    for size in (20, 40_000):
        many = run(f"buffer b 40000\nrepeat 3000 -native 1 2 @b {size}\nexit 3")
        assert (many.status, many.exit_code) == (Status.ERROR, 3), "nobody listens before its end"
        assert 20 <= len(many.stderr_bytes) <= 1 << 14


def test_last_words_that_nobody_takes(pypy: str) -> None:
    def closed(_: str) -> None:
        raise BrokenPipeError

    with Sandbox(guest=pypy) as box:
        result = box.run('native 1 2 "sandbox: fatal\\n" 15\nexit 3', on_stderr=closed)
    assert (result.status, result.exit_code) == (Status.ERROR, 3)


# --- finding it -------------------------------------------------------------------------------------------------------


def test_it_is_recognised(pypy: str) -> None:
    guest = find_guest(pypy)
    assert (guest.marshals, guest.version, guest.library) == (True, (3, 6), str(Path(pypy).parent))
    assert not find_guest().marshals


def test_a_build_in_one_file(home: Path, tmp_path: Path) -> None:
    program = load_build().client(tmp_path, single=True)
    assert not list(tmp_path.glob("*.so"))
    assert find_guest(program, home).functions == find_guest(home / "pypy3-c").functions
    shutil.move(program, home / "pypy-c")  # a folder that guests may read
    with Sandbox(guest=home / "pypy-c") as box:
        assert box.run("say on").stdout == "on\n"


def test_another_library_beside_the_same_program_is_asked_anew(home: Path, tmp_path: Path) -> None:
    build = load_build()
    program = shutil.copy(home / "pypy3-c", tmp_path)

    def rebuild(mark: str, *functions: str) -> tuple[str, ...]:
        source, library = tmp_path / "library.c", tmp_path / "new.so"
        seen = f"Version: 20001\\nPlatform: linux2\\nFuncs: {' '.join(functions)}\\n"
        source.write_text(
            f'const char *mark = "{mark}", *told = "{seen}", *python = "{PYTHON}";\n'
            f"int {build.ENTRY}(void) {{ return 0; }}\n"
        )
        subprocess.run([*build.compiler(), "-shared", "-fPIC", "-o", library, source], check=True)
        library.replace(tmp_path / build.LIBRARY)
        return find_guest(program, home).functions

    assert rebuild("RPY_SANDBOX_DUMP", "getuid()i") == ("getuid()i",)
    assert rebuild("RPY_SANDBOX_DUMP", "getuid()i", "getgid()i") == ("getuid()i", "getgid()i")
    with pytest.raises(SandboxStartError, match="neither a PyPy"):  # neither of that kind
        rebuild("none", "getuid()i")
    (tmp_path / build.LIBRARY).unlink()
    os.mkfifo(tmp_path / build.LIBRARY)  # opening the FIFO must not wait for a writer
    with pytest.raises(SandboxStartError, match="neither a PyPy"):
        find_guest(program, home)


#: The beginning of a sys.version, as a C string.
PYTHON = r"3.6.9 (?, Apr 19 2020, 12:00:00)\n[PyPy 7.2.0 with GCC 12.2.0]"


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Compiles a program with chosen data about itself."""

    def make(**changes: str) -> Path:
        lines = {"Version": "20001", "Platform": "linux2", "Funcs": "getuid()i", **changes}
        python = lines.pop("Python", PYTHON)
        source = tmp_path / "fake.c"
        seen = "".join(f"{key}: {value}\\n" for key, value in lines.items())
        source.write_text(
            f'const char *mark = "RPY_SANDBOX_DUMP", *told = "{seen}", *python = "{python}";\n'
            "int main(void) { return 7; }\n"
        )
        program = tmp_path / "fake"
        subprocess.run([*load_build().compiler(), "-o", program, source], check=True)
        return program

    return make


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Version": "20000"}, "version '20000' of the sandbox's wire; known: 20001"),
        ({"Platform": "win32"}, "platform 'win32' of the sandbox's wire"),
        ({"Funcs": "getuid"}, "its list of functions (RPY_SANDBOX_DUMP) makes no sense"),
        ({"Funcs": ""}, "makes no sense"),
        ({"Funcs": "getuid()i\\x1b[31m()i"}, "makes no sense"),
        ({"Funcs": f"getuid()i {'f()i ' * 20_000}"}, "does not say which functions it can call"),
        ({"Python": "3.6.9"}, "does not say which version of Python it is"),
        ({"Python": r"4.0.0 (x)\n[PyPy 9"}, "does not say which version of Python it is"),
        ({}, "its library (lib-python/3 and lib_pypy) is not beside it or in a folder above"),
        ({"Python": r"2.7.18 (x)\n[PyPy 7"}, "its library (lib-python/2.7 and lib_pypy) is not beside it"),
    ],
)
def test_guests_that_cannot_be_served(made: Callable[..., Path], changes: dict[str, str], words: str) -> None:
    with pytest.raises(SandboxStartError) as caught:
        find_guest(made(**changes))
    assert words in str(caught.value)


def test_functions_that_are_not_known_are_a_warning(made: Callable[..., Path], home: Path) -> None:
    """The guest starts, and these functions get ENOSYS (test_a_function_of_no_list). A warning names them."""
    words = "it can call functions that are not known here, and are answered with ENOSYS: "
    guest = find_guest(made(Funcs="getuid()i dlopen(p)p connect(ipi)i"), home)
    assert guest.warnings == (f"{words}dlopen(p)p, connect(ipi)i",)
    many = find_guest(made(Funcs=" ".join(f"f{number}()i" for number in range(50))), home)
    assert many.warnings[0].endswith("f19()i, and 30 more")
    assert find_guest(home / "pypy3-c").warnings == find_guest().warnings == ()


def test_doctor_and_guests_tell_of_functions_that_are_not_known(
    made: Callable[..., Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = made(Funcs="dlopen(p)p")
    monkeypatch.setenv("PROXYBOX_GUEST_LIBRARY", str(home))
    monkeypatch.setenv("PROXYBOX_GUEST", str(program))
    seen = proxybox.diagnose(str(program))
    assert [each for each in seen.warnings if "dlopen(p)p" in each]
    assert [each.warnings for each in guests() if each.path == str(program)] == [find_guest(program).warnings]


@pytest.mark.parametrize(("version", "library"), [((3, 6), "lib-python/3"), ((2, 7), "lib-python/2.7")])
def test_its_version_is_that_of_the_build(
    made: Callable[..., Path], tmp_path: Path, version: tuple[int, int], library: str
) -> None:
    """Its version comes from the program, not from the libraries beside it."""
    for name in ("lib-python/3", "lib-python/2.7", "lib_pypy"):
        (tmp_path / name).mkdir(parents=True)
    assert find_guest(made(Python=rf"{version[0]}.{version[1]}.1 (?, x)\n[PyPy 7.3.6 with")).version == version
    shutil.rmtree(tmp_path / library)
    with pytest.raises(SandboxStartError, match=f"{library} and lib_pypy"):
        find_guest(made(Python=rf"{version[0]}.{version[1]}.1 (?, x)\n[PyPy 7.3.6 with"))


def test_its_library_by_option(
    home: Path, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = made()
    assert find_guest(program, home).library == str(home)
    monkeypatch.setenv("PROXYBOX_GUEST_LIBRARY", str(home))
    assert find_guest(program).library == str(home)
    with pytest.raises(SandboxStartError, match="--guest-library"):
        find_guest(program, tmp_path)


def test_a_static_guest_is_refused(tmp_path: Path) -> None:
    """A stub cannot be preloaded into it, so it could not be sealed."""
    try:
        program = load_build().client(tmp_path, static=True)
    except RuntimeError as error:
        pytest.skip(f"no static C library here: {str(error).splitlines()[0]}")
    with pytest.raises(SandboxStartError, match="statically linked"):
        Sandbox(guest=program).run("say x")


# --- what such a guest cannot do, and the front ends ------------------------------------------------------------------


def test_sessions_copies_pools_and_host_functions_say_so(pypy: str) -> None:
    words = "it has no sessions, copies, pools of warm boxes or host functions"
    with Sandbox(guest=pypy) as box, pytest.raises(SandboxStartError, match=words):
        box.session()
    with Sandbox(guest=pypy, functions={"f": print}) as box, pytest.raises(SandboxStartError, match=words):
        box.run("say x")
    with pytest.raises(SandboxStartError, match=words):
        Pool(guest=pypy, size=1).close()
    with pytest.raises(SandboxStartError, match=words):
        AsyncPool(guest=pypy, size=1)


def test_what_doctor_says_of_it(pypy: str) -> None:
    """Such a guest always has one thread; the host lacks nothing."""
    seen = proxybox.diagnose(pypy)
    assert (seen.guest, seen.problems) == (f"{pypy} (translated PyPy, Python 3.6)", ())
    (threads,) = [layer for layer in seen.layers if layer.name == "thread count"]
    assert (threads.available, threads.detail) == (True, "one: the filter lets no other be made")


def test_many_runs_of_one_sandbox(pypy: str) -> None:
    """Each run is a new process, also where other guests would be copied."""
    with Sandbox(guest=pypy, warm=True) as box:
        assert [box.run(f"say {number}").stdout for number in range(4)] == [f"{number}\n" for number in range(4)]


def test_under_asyncio(pypy: str) -> None:
    async def main() -> list[str]:
        async with AsyncSandbox(guest=pypy) as box:
            results: dict[int, Result] = {}

            async def one(number: int) -> None:
                results[number] = await box.run(f'say {number}\nd = opendir(p)p "/"\nreaddir(p)p $d\nclosedir(p)i $d')

            async with anyio.create_task_group() as group:
                for number in range(6):
                    group.start_soon(one, number)
        return [results[number].stdout.splitlines()[0] for number in range(6)]

    assert anyio.run(main) == [str(number) for number in range(6)]


def test_the_command_line(
    pypy: str, home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # pytest's own cannot be read
    assert cli.main(["run", "--guest", pypy, "-c", "getuid()i\nexit 3"]) == 3
    assert capfd.readouterr().out == "getuid 1000\n"
    status = cli.main(["trace", "--guest", pypy, "--guest-library", str(home), "-c", 'opendir(p)p "/nope"\nfork()i'])
    out, err = capfd.readouterr()
    assert (status, out) == (0, "opendir NULL errno 2\nfork -1 errno 1\n")
    assert 'open("/nope", O_RDONLY|O_DIRECTORY|O_CLOEXEC, 0) = -1 ENOENT (No such file or directory)' in err
    assert "fork() = -1 EPERM (Operation not permitted) [denied: fork is refused]" in err


def test_on_a_terminal(pypy: str, run: Run) -> None:
    """The names are those of the other kind of guest."""
    lines = [f"isatty(i)i {fd}\nt = ttyname(i)p {fd}\nstring $t\ntcgetpgrp(i)i {fd}" for fd in (0, 1, 2)]
    main, process = on_a_terminal("run", "--guest", pypy, "-c", "\n".join([*lines, "isatty(i)i 3", "say on"]))
    with process:
        shown = re.sub(rb"0x[0-9a-f]+", b"AT", until(main, b"on\r\n")).decode().splitlines()
    os.close(main)
    assert shown == [
        line for _ in range(3) for line in ("isatty 1", "ttyname AT", "/dev/tty", "tcgetpgrp 100")
    ] + ["isatty 0", "on"]  # fmt: skip
    assert answers(run("isatty(i)i 1\nttyname(i)p 1\ntcgetpgrp(i)i 1")) == [
        "isatty 0", "ttyname NULL errno 25", "tcgetpgrp -1 errno 25"
    ]  # fmt: skip


def test_its_own_prompt(pypy: str) -> None:
    shown = at_its_prompt(pypy, (b">>>> ", b"getuid()i"), (b"getuid 1000", b"exit 5"))
    assert shown.count(b">>>> ") >= 1


# --- its start --------------------------------------------------------------------------------------------------------

COUNTS = {
    "stat": 146, "gettimeofday": 114, "fstat": 75, "lseek": 54, "read": 48,
    "mkdir": 12, "lstat": 3, "uname": 1, "time": 1, "access": 1, "geteuid": 1, "getuid": 1, "getegid": 1, "getgid": 1,
}  # fmt: skip


def test_the_calls_of_a_start(pypy: str) -> None:
    """The start makes about a thousand calls, in the order and number of `-c 'print(42)'`.

    The client aborts at any byte that is not in the format.
    """
    names: list[str] = []
    with Sandbox(guest=pypy, audit=lambda call: names.append(call.name)) as box:
        result = box.run("startup /usr/lib/pypy")
    assert answers(result)[-1] == "startup 1018"
    begun = names.index("uname")
    for name, count in COUNTS.items():
        assert names[begun:].count(name) == count, name
    assert names[begun:].count("open") >= 50
    assert proxybox.run("print(42)").stdout == "42\n", "and the other kind of guest runs as before"

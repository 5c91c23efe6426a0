"""Invalid arguments are refused at once, with the same error however a program is run. The error names the
parameter.
"""

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import proxybox
from proxybox import AsyncPool, AsyncSandbox, PolicyError, Pool, Sandbox

PROGRAM = "print('begun')"
LIMITS = {"wall_time": 120, "cpu_time": 60}


class NoFile:
    """An object whose descriptor does not exist."""

    def fileno(self) -> int:
        return 1 << 20

    def __repr__(self) -> str:
        return "NoFile()"


CLOSED, NO_FILE = io.BytesIO(), NoFile()
CLOSED.close()
#: Invalid arguments beside or in place of the program, and the error for each.
NONSENSE: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no code": ({"code": None}, TypeError, "code: want source text (str), or the path of a script"),
    "bytes as code": ({"code": b"print(1)"}, TypeError, "code: want source text (str), or the path of a script"),
    "code beyond 64 MiB": ({"code": "#" * ((64 << 20) + 1)}, PolicyError, "code: want at most 64 MiB"),
    "a number as an argument": ({"args": ["a", 1]}, TypeError, "args[1]: want text (str), got 1"),
    "no argument": ({"args": [None]}, TypeError, "args[0]: want text (str), got None"),
    "a path as an argument": ({"args": [Path("x")]}, TypeError, "args[0]: want text (str), got PosixPath('x')"),
    "an argument with NUL": ({"args": ["a\0b"]}, PolicyError, "args[0]: want text without NUL, got 'a\\x00b'"),
    "half a character": ({"args": ["\ud800"]}, PolicyError, "args[0]: want text that can be written as UTF-8"),
    "a text as arguments": ({"args": "abc"}, TypeError, "args: want a list of texts (str), got 'abc': write ['abc']"),
    "no arguments": ({"args": None}, TypeError, "args: want a list of texts (str), got None"),
    "a long argument": ({"args": ["x" * (128 << 10)]}, PolicyError, "args[0]: want less than 128 KiB"),
    "long arguments": ({"args": ["x" * 100_000] * 16}, PolicyError, "args: want at most 1.5 MiB in all"),
    "a number as a file": ({"files": {"a": 10**9}}, TypeError, "files['a']: want text or bytes, got 1000000000"),
    "a path as a file": ({"files": {"a": Path("/etc/passwd")}}, TypeError, "give its content (read_bytes), or mount"),
    "no file": ({"files": {"a": None}}, TypeError, "files['a']: want text or bytes, got None"),
    "half a character in a file": ({"files": {"a": "\ud800"}}, PolicyError, "files['a']: want text that can be"),
    "a list of files": ({"files": ["a"]}, TypeError, "files: want a mapping of names to text or bytes, got ['a']"),
    "a file with a number": ({"files": {1: "a"}}, TypeError, "files: want names that are text (str), got 1"),
    "a file outside": ({"files": {"../a": ""}}, PolicyError, "files: '../a' is no path below /box"),
    "a file with a long name": ({"files": {"a" * 256: ""}}, PolicyError, "is no path below /box"),
    "a file in a file": ({"files": {"a/b": "", "a": ""}}, PolicyError, "'a' cannot be a file and the folder of 'a/b'"),
    "a file in the code": ({"files": {"main.py/x": ""}}, PolicyError, "'main.py' is the name of the code itself"),
    "a number as stdin": ({"stdin": 0}, TypeError, "stdin: want text, bytes, a file object, a function, a Terminal"),
    "a closed file as stdin": ({"stdin": CLOSED}, PolicyError, "stdin: want a file object that is open, got <_io."),
    "a descriptor that is none": ({"stdin": NO_FILE}, PolicyError, "stdin: want a file object that is open, got NoFi"),
    "no time": ({"timeout": 0}, PolicyError, "timeout: want a duration above 0 and of at most 366 days"),
    "less than no time": ({"timeout": -1}, PolicyError, "timeout: want a duration above 0 and of at most 366 days"),
    "no number": ({"timeout": math.nan}, PolicyError, "timeout: want a duration such as 2.5 (seconds)"),
    "endless": ({"timeout": math.inf}, PolicyError, "timeout: want a duration such as 2.5 (seconds)"),
    "no duration": ({"timeout": "soon"}, PolicyError, "timeout: want a duration such as 2.5 (seconds)"),
    "true": ({"timeout": True}, PolicyError, "timeout: want a duration such as 2.5 (seconds)"),
    "no function": ({"on_stdout": "print"}, TypeError, "on_stdout: want a function or None, got 'print'"),
    "no function either": ({"on_stderr": 0}, TypeError, "on_stderr: want a function or None, got 0"),
}
Told = dict[str, tuple[type[Exception], str]]


@pytest.fixture(scope="module")
def told() -> dict[str, Told]:
    """The errors of each way of running a program for each invalid argument, raised before the program begins."""
    found: dict[str, Told] = {}
    ways = {"alone": lambda **given: proxybox.run(**given, limits=LIMITS, warm=False)}
    with (
        Sandbox(warm=True, limits=LIMITS) as warm,
        Pool(size=1, limits=LIMITS) as pool,
        Pool(size=1, processes=1, limits=LIMITS) as processes,
    ):
        for _ in range(2):
            assert warm.run(PROGRAM).ok
        for name, run in {**ways, "warm": warm.run, "pool": pool.run, "pool of processes": processes.run}.items():
            found[name] = {what: _said(run, given) for what, (given, *_) in NONSENSE.items()}
    found.update(anyio.run(_told_in_a_loop))
    return found


def _said(run: Callable[..., Any], given: dict[str, Any]) -> tuple[type[Exception], str]:
    try:
        result = run(**{"code": PROGRAM, **given})
    except Exception as error:
        return type(error), str(error)
    raise AssertionError(f"{list(given)}: it ran: {result}")


async def _told_in_a_loop() -> dict[str, Told]:
    found: dict[str, Told] = {}
    async with AsyncSandbox(limits=LIMITS) as box, AsyncPool(size=1, limits=LIMITS) as pool:
        for way in (box, pool):
            found[type(way).__name__] = {}
            for what, (given, *_) in NONSENSE.items():
                try:
                    result = await way.run(**{"code": PROGRAM, **given})
                except Exception as error:
                    found[type(way).__name__][what] = type(error), str(error)
                else:
                    raise AssertionError(f"{what}: it ran: {result}")
    return found


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused_alike_on_every_way(told: dict[str, Told], what: str) -> None:
    _, kind, words = NONSENSE[what]
    assert len(told) == 6
    for way, said in told.items():
        assert said[what][0] is kind, (way, said[what])
        assert words in said[what][1], (way, said[what])
    assert len({said[what] for said in told.values()}) == 1


# --- what sandboxes are made of ---------------------------------------------------------------------------------------

MADE_OF: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a list of functions": ({"functions": [max]}, TypeError, "functions: want a mapping of names to functions, got ["),
    "a number as a function": ({"functions": {"f": 5}}, PolicyError, "functions: f: want a function, not int"),
    "a text as packages": ({"packages": "/tmp"}, TypeError, "packages: want a list of paths, got '/tmp'"),
    "packages that are not there": ({"packages": ["/no/such"]}, PolicyError, "packages[0]: want a folder, a req"),
    "a number as packages": ({"packages": [1]}, TypeError, "packages[0]: want a path (str or os.PathLike), got 1"),
    "a number as guest": ({"guest": 5}, TypeError, "guest: want a path (str or os.PathLike), got 5"),
    "a number as a variable": (
        {"environment": {"variables": {"A": 1}}}, PolicyError, "environment.variables.A: want a text",
    ),
    "a variable with =": ({"environment": {"variables": {"A=B": ""}}}, PolicyError, "without = or NUL, got 'A=B'"),
    "a variable with NUL": ({"environment": {"variables": {"A\0": ""}}}, PolicyError, "without = or NUL, got 'A\\x00'"),
}  # fmt: skip
SIZES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a text as size": ({"size": "2"}, TypeError, "size: want a whole number of 1 or more, got '2'"),
    "half a box": ({"size": 2.5}, TypeError, "size: want a whole number of 1 or more, got 2.5"),
    "no box": ({"size": 0}, PolicyError, "size: want a whole number of 1 or more, got 0"),
    "less than no box": ({"size": -1}, PolicyError, "size: want a whole number of 1 or more, got -1"),
    "true boxes": ({"size": True}, TypeError, "size: want a whole number of 1 or more, got True"),
    "warm by word, in a pool": ({"warm": "no"}, TypeError, "warm: want True or False, got 'no'"),
    "warm or not": ({"warm": None}, TypeError, "warm: want True or False, got None"),
    "more boxes than descriptors": ({"size": 10**9}, ValueError, "size=1000000000: this process may open "),
    "a number to preload": ({"preload": 5}, TypeError, "preload: want a list of names of modules, got 5"),
    "no module": (
        {"preload": ["json", "no_such_module"]}, PolicyError,
        "preload[1]: there is no such module in the box: neither the interpreter nor packages= has it, got 'no_such",
    ),
}  # fmt: skip
#: Invalid arguments of pools with processes.
IN_PROCESSES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a text as processes": ({"processes": "2"}, TypeError, "processes: want a whole number of 0 or more, got '2'"),
    "less than no process": ({"processes": -1}, PolicyError, "processes: want a whole number of 0 or more, got -1"),
    "a number as a function": ({"processes": 1, "functions": {"f": 5}}, PolicyError, "functions: f: want a function"),
    "a name of a function": ({"processes": 1, "functions": {"a b": max}}, PolicyError, "functions: 'a b' is no name"),
    "more boxes than descriptors": ({"processes": 1, "size": 10**9}, ValueError, "size=1000000000: this process may"),
}
RULES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "one interceptor": ({"interceptors": print}, TypeError, "interceptors: want a list of functions"),
    "no interceptor": ({"interceptors": [1]}, TypeError, "interceptors[0]: want a function, got 1"),
    "no audit": ({"audit": 1}, TypeError, "audit: want a function or None, got 1"),
    "warm by word": ({"warm": "no"}, TypeError, "warm: want True or False, got 'no'"),
}


@pytest.mark.parametrize(
    ("make", "what"),
    [
        *((make, what) for make in (Sandbox, AsyncSandbox, Pool, AsyncPool) for what in MADE_OF),
        *((make, what) for make in (Pool, AsyncPool) for what in SIZES),
        *((make, what) for make in (Sandbox, AsyncSandbox) for what in RULES),
        *((Pool, f"{what}, in processes") for what in IN_PROCESSES),
    ],
)
def test_nonsense_is_refused_when_a_sandbox_is_made(make: type[Any], what: str) -> None:
    in_processes = {f"{what}, in processes": told for what, told in IN_PROCESSES.items()}
    given, kind, words = {**MADE_OF, **SIZES, **RULES, **in_processes}[what]
    with pytest.raises(kind) as caught:
        make(**given)
    assert words in str(caught.value)


@pytest.mark.parametrize("warm", [False, True])
def test_a_module_to_preload_that_is_not_there_is_told_before_the_first_run(warm: bool) -> None:
    begun: list[str] = []
    with Sandbox(warm=warm, preload=["math", "xml.nothing"], limits=LIMITS) as box:
        for _ in range(2):
            with pytest.raises(PolicyError, match=r"preload\[1\]: there is no such module .* got 'xml.nothing'"):
                box.run(PROGRAM, on_stdout=begun.append)
    assert begun == []


@pytest.mark.sized(5)
@pytest.mark.parametrize("given", [None, 5, 0, ["x"]])
@pytest.mark.parametrize("warm", [False, True])
def test_a_stdin_function_that_gives_neither_text_nor_bytes(given: Any, warm: bool) -> None:
    """If bytes() converted the result, 5 would become five NULs, at every read."""
    with Sandbox(warm=warm, limits=LIMITS) as box, pytest.raises(TypeError, match="stdin: what its function returned"):
        box.run("input()", stdin=lambda size: given)
    with Pool(size=1, processes=1, limits=LIMITS) as pool, pytest.raises(TypeError, match="stdin: what its function"):
        pool.run("input()", stdin=lambda size: given)


@pytest.mark.parametrize("given", [None, 10**9])
def test_a_mount_whose_function_gives_neither_text_nor_bytes(given: Any) -> None:
    mounts = [proxybox.Mount("/data/file", lambda: given)]
    words = "what the function of a mount returned: want text or bytes, got"
    with Sandbox(filesystem={"mounts": mounts}, limits=LIMITS) as box, pytest.raises(TypeError, match=words):
        box.run("open('/data/file')")


@pytest.mark.parametrize("given", [5, b"print(1)", None, max, lambda: 1])
def test_what_a_pool_cannot_ship(given: Any) -> None:
    with Pool(size=1, limits=LIMITS) as pool:
        for hand_in in (lambda: pool.submit(given), lambda: pool.map(given, [1])):
            with pytest.raises(TypeError, match="fn: want source text, the path of a script, or a function that was"):
                hand_in()


def test_a_terminal_without_a_function() -> None:
    with pytest.raises(TypeError, match="read: want a function, got 5"):
        proxybox.Terminal(5)  # type: ignore[arg-type]


def test_bounds_of_host_functions() -> None:
    for given, words in (
        ({"function": 5}, "function: want a function, got 5"),
        ({"function": max, "timeout": 0}, "timeout: want a duration above 0"),
        ({"function": max, "size": -1}, "size: want a size of 1 byte or more"),
        ({"function": max, "timeout": math.nan}, "timeout: want a duration such as 2.5 (seconds)"),
        ({"function": max, "size": "much"}, 'size: want a size such as "512M"'),
    ):
        with pytest.raises(PolicyError) as caught:
            proxybox.HostFunction(**given)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: proxybox.Deny("EACCES"), TypeError, "errno: want a number such as errno.EACCES, got 'EACCES'"),  # type: ignore[arg-type]
        (lambda: proxybox.Deny(0), PolicyError, "errno: want a number such as errno.EACCES, got 0"),
        (lambda: proxybox.Deny(-13), PolicyError, "errno: want a number such as errno.EACCES, got -13"),
        (lambda: proxybox.Answer(None), TypeError, "value: want a number, which is what the call returns, got None"),  # type: ignore[arg-type]
    ],
)
def test_what_an_interceptor_says(make: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        make()
    assert str(caught.value) == words


@pytest.mark.full
def test_code_of_64_mib_runs_alike() -> None:
    code = f"print('begun')\n#{'x' * (60 << 20)}\n"
    limits = {**LIMITS, "memory": "2G", "disk": "100M"}
    with Sandbox(warm=True, limits=limits) as box:
        assert [box.run(code if n == 2 else "1").stdout for n in range(3)] == ["", "", "begun\n"]


# --- sessions ---------------------------------------------------------------------------------------------------------

IN_A_SESSION: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "bytes as code": (lambda it: it.exec(b"1"), TypeError, "code: want source text (str), got b'1'"),
    "a path as code": (lambda it: it.exec(Path("x")), TypeError, "code: want source text (str), got PosixPath('x')"),
    "a number as expression": (lambda it: it.eval(5), TypeError, "code: want source text (str), got 5"),
    "much code": (lambda it: it.exec("#" * (2 << 20)), PolicyError, "code: want at most 1 MiB (session.value_size)"),
    "a number as name": (lambda it: it.exec("1", name=5), TypeError, "name: want text (str), got 5"),
    "a number that is called": (lambda it: it.call(5), TypeError, "name: want text (str), got 5"),
    "an object as an argument": (
        lambda it: it.call("len", 1, object()),
        TypeError,
        "args[1]: a 'object' object cannot",
    ),
    "an object by name": (lambda it: it.call("len", x=[object()]), TypeError, "kwargs['x'][0]: a 'object' object can"),
    "an object that is set": (lambda it: it.set("a", {1: object()}), TypeError, "value['a'][1]: a 'object' object"),
    "a number that is set": (lambda it: it.set(5, 1), TypeError, "name: want text (str), got 5"),
    "a number that is got": (lambda it: it.get(5), TypeError, "name: want text (str), got 5"),
    "no time": (lambda it: it.exec("1", timeout=0), PolicyError, "timeout: want a duration above 0"),
    "a number as stdin": (lambda it: it.exec("1", stdin=5), TypeError, "stdin: want text, bytes, a file object"),
    "no function": (lambda it: it.exec("1", on_stdout=5), TypeError, "on_stdout: want a function or None, got 5"),
    "no snapshot": (lambda it: it.restore(None), TypeError, "snapshot: want a Snapshot, as snapshot() gives it"),
    "bytes to complete": (lambda it: it.complete(b"os."), TypeError, "code: want source text (str), got b'os.'"),
    "a cursor by word": (lambda it: it.complete("x", "1"), TypeError, "cursor: want a whole number of 0 or more"),
    "before the beginning": (lambda it: it.complete("x", -1), PolicyError, "cursor: want a whole number of 0 or more"),
    "nothing to inspect": (lambda it: it.inspect(None), TypeError, "code: want source text (str), got None"),
    "half a cursor": (lambda it: it.inspect("x", 0.5), TypeError, "cursor: want a whole number of 0 or more, got 0.5"),
    "detail by word": (lambda it: it.inspect("x", detail="all"), TypeError, "detail: want a whole number of 0 or more"),
    "nothing complete": (lambda it: it.is_complete(None), TypeError, "code: want source text (str), got None"),
}
WITH_FILES: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "a number as content": (lambda it: it.write_file("x", 10**9), TypeError, "data: want text or bytes, got 1000000"),
    "no content": (lambda it: it.write_file("x", None), TypeError, "data: want text or bytes, got None"),
    "a number as path": (lambda it: it.read_file(5), TypeError, "path: want a path (str or os.PathLike), got 5"),
    "a number to list": (lambda it: it.list_files(5), TypeError, "path: want a path (str or os.PathLike), got 5"),
    "less than nothing": (lambda it: it.read_file("x", -1), PolicyError, "limit: want a size of 0 bytes or more"),
    "no display": (lambda it: it.exec("1", on_display=5), TypeError, "on_display: want a function or None, got 5"),
    "no audit": (lambda it: it.audit(5), TypeError, "audit: want a function or None, got 5"),
}


@pytest.fixture(scope="module")
def session() -> Iterator[proxybox.Session]:
    with Sandbox(limits=LIMITS, session={"branches": 2}) as box, box.session() as session:
        yield session


@pytest.mark.parametrize("what", {**IN_A_SESSION, **WITH_FILES})
def test_nonsense_in_a_session(session: proxybox.Session, what: str) -> None:
    call, kind, words = {**IN_A_SESSION, **WITH_FILES}[what]
    with pytest.raises(kind) as caught:
        call(session)
    assert words in str(caught.value)
    assert session.eval("6 * 7").value == 42


def test_nonsense_in_a_session_of_a_loop() -> None:
    async def tell() -> None:
        async with AsyncSandbox(limits=LIMITS, session={"branches": 2}) as box, await box.session() as session:
            for what, (call, kind, words) in IN_A_SESSION.items():
                with pytest.raises(kind) as caught:
                    await call(session)
                assert words in str(caught.value), what
            assert (await session.eval("6 * 7")).value == 42

    anyio.run(tell)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"timeout": -1}, PolicyError, "timeout: want a duration above 0"),
        ({"folder": 5}, TypeError, "folder: want a path"),
        ({"folder": "/no/such"}, PolicyError, "folder: want a folder of the host that is there, got '/no/such'"),
        ({"files": {"a": 5}}, TypeError, "files['a']: want text or bytes, got 5"),
        ({"stdin": 5}, TypeError, "stdin: want text, bytes"),
    ],
)
def test_nonsense_that_a_session_is_made_of(given: dict[str, Any], kind: type[Exception], words: str) -> None:
    async def begin() -> None:
        async with AsyncSandbox(limits=LIMITS) as box:
            await box.session(**given)

    with Sandbox(limits=LIMITS) as box, pytest.raises(kind) as caught:
        box.session(**given)
    assert words in str(caught.value)
    with pytest.raises(kind) as told:
        anyio.run(begin)
    assert str(told.value) == str(caught.value)


def test_no_limit_of_time_means_the_same_on_every_way(session: proxybox.Session) -> None:
    limits = {"wall_time": 0.05, "cpu_time": 60}
    slow = "import time; time.sleep(0.3)"
    with Sandbox(limits=limits) as box, Pool(size=1, limits=limits) as pool:
        assert box.run(slow, timeout="none").ok
        assert pool.run(slow, timeout="none").ok
        with box.session(timeout="none") as endless:
            assert endless.exec(slow).ok
            assert endless.exec(slow, timeout=0.05).status is proxybox.Status.TIME_LIMIT

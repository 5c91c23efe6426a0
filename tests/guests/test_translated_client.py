"""The stand-in for a translated PyPy follows the wire format, and breaks it on request.

Here the test is the controller, over plain pipes.
"""

import importlib.util
import signal
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BUILD = Path(__file__).resolve().parent / "translated" / "build.py"
NO_LIMIT = 2**64 - 1
HOME = b"/lib"
ENOENT = 2

_spec = importlib.util.spec_from_file_location("translated_build", BUILD)
assert _spec is not None
assert _spec.loader is not None
build: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = build.client(tmp_path_factory.mktemp("client"))
    return path


class Guest:
    """A running client, and the controller's side of its pipes."""

    def __init__(self, program: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, env=env or {})
        assert self.process.stdin
        assert self.process.stdout
        self.commands, self.requests = self.process.stdin, self.process.stdout
        self.calls: list[tuple[str, tuple[int | float, ...]]] = []
        self.printed = {1: b"", 2: b""}
        self.input = b""

    def request(self) -> tuple[str, tuple[int | float, ...]] | None:
        """Reads the next request. Returns its signature and arguments; None when the client has closed the pipe."""
        if not (length := self.requests.read(1)):
            return None
        signature = self.requests.read(length[0]).decode("ascii")
        kinds = signature[signature.index("(") + 1 : -2]
        layout = struct.Struct("<" + "".join({"p": "Q", "i": "q", "f": "d"}[kind] for kind in kinds))
        call = signature, layout.unpack(self.requests.read(layout.size))
        self.calls.append(call)
        return call

    def send(self, command: bytes, *words: int, data: bytes = b"") -> None:
        self.commands.write(command + b"".join(struct.pack("<Q", word % 2**64) for word in words) + data)
        self.commands.flush()

    def u64(self) -> int:
        return int(struct.unpack("<Q", self.requests.read(8))[0])

    def memory(self, address: int, size: int) -> bytes:
        self.send(b"R", address, size)
        return self.requests.read(size)

    def string(self, address: int, most: int = NO_LIMIT) -> bytes:
        self.send(b"Z", address, most)
        return self.requests.read(self.u64())

    def store(self, address: int, data: bytes) -> None:
        self.send(b"W", address, len(data), data=data)

    def malloc(self, data: bytes) -> int:
        self.send(b"M", len(data), data=data)
        return self.u64()

    def fail(self, error: int, value: int = -1, kind: bytes = b"i") -> None:
        self.send(b"E", data=struct.pack("<i", error))
        self.send(kind, value)

    def started(self) -> "Guest":
        """Answers the first two calls, which every run makes."""
        assert self.request() == ("_pypy_init_home()p", ())
        address = self.malloc(HOME + b"\0")
        self.send(b"p", address)
        assert self.request() == ("_pypy_init_free(p)v", (address,))
        self.send(b"F", address)
        self.send(b"v")
        return self

    def expect(self, signature: str) -> tuple[Any, ...]:
        call = self.request()
        assert call is not None, self.end()
        assert call[0] == signature
        return call[1]

    def finish(self, answer: Callable[["Guest", str, tuple[Any, ...]], None] | None = None) -> str:
        """Serves the client until it ends, and returns its output.

        answer: handles all calls except writes and reads of descriptor 0.
        """
        while call := self.request():
            signature, arguments = call
            if signature == "write(ipi)i":
                fd, address, size = arguments
                self.printed[int(fd)] += self.memory(int(address), int(size))
                self.send(b"i", int(size))
            elif signature == "read(ipi)i" and arguments[0] == 0:
                self.store(int(arguments[1]), self.input)
                self.send(b"i", len(self.input))
                self.input = b""
            else:
                assert answer, call
                answer(self, signature, arguments)
        return self.printed[1].decode()

    def end(self) -> tuple[int, str]:
        """Closes the pipe to the client. Returns the client's exit status and what it wrote to standard error."""
        self.commands.close()
        assert self.process.stderr
        words = self.process.stderr.read().decode()
        self.requests.close()
        self.process.stderr.close()
        return self.process.wait(), words


@pytest.fixture
def guest(program: Path) -> Iterator[Callable[..., Guest]]:
    """Starts a client, and answers its first calls."""
    made: list[Guest] = []

    def start(*lines: str, arguments: tuple[str, ...] = ()) -> Guest:
        made.append(Guest(program, *(arguments or ("-c", "\n".join(lines)))))
        return made[-1].started()

    yield start
    for each in made:
        each.process.kill()
        if not each.commands.closed:
            try:
                each.end()
            except BrokenPipeError:
                each.process.wait()


# --- the program, and what it says of itself --------------------------------------------------------------------------


def test_it_compiles_without_a_warning() -> None:
    command = [*build.compiler(), "-Wall", "-Wextra", "-Wshadow", "-Werror", "-O2", "-fsyntax-only", str(build.SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_static_one_is_the_same(program: Path, tmp_path: Path) -> None:
    try:
        static = build.client(tmp_path, static=True)
    except RuntimeError as error:
        if "-lc" not in str(error):
            raise
        pytest.skip("there is no static libc")
    assert b"ld-linux" in program.read_bytes()
    assert b"ld-linux" not in static.read_bytes()[:4096]
    client = Guest(static, "-c", "say hello").started()
    assert client.finish() == "hello\n"
    assert client.end() == (0, "")


def test_a_dump_names_every_call(program: Path) -> None:
    done = subprocess.run([program], env={"RPY_SANDBOX_DUMP": "1"}, capture_output=True, text=True, check=True)
    version, platform, functions = done.stdout.splitlines()
    assert (version, platform, done.stderr) == ("Version: 20001", "Platform: linux2", "")
    names = functions.removeprefix("Funcs: ").split(" ")
    assert len(names) == 159
    assert [name for name, count in Counter(names).items() if count == 2] == ["gettimeofday(pp)i", "time(p)i"]
    assert (names[0], names[-1]) == ("_exit(i)v", "write(ipi)i")
    assert names == sorted(names, key=lambda name: name.partition("(")[0])


# --- commands ---------------------------------------------------------------------------------------------------------


def test_memory_is_read_stored_and_measured(guest: Callable[..., Guest]) -> None:
    client = guest("buffer b 4", r'x = ask(ppi)i @b "a\x62\\\"c\n\0rest" -0x10', "show b", "text b", "show @b+1 2")
    buffer, text, number = client.expect("ask(ppi)i")
    assert (client.memory(buffer, 4), number) == (bytes(4), -16)
    assert client.memory(text, 12) == b'ab\\"c\n\0rest\0'
    assert client.string(text) == b'ab\\"c\n'
    assert client.string(text, 3) == b"ab\\"
    assert client.string(text, 0) == client.memory(text, 0) == b""
    client.store(buffer, b"wxyz")
    client.send(b"i", -7)
    assert client.finish() == "ask -7\n7778797a\nwxyz\n7879\n"
    assert client.end() == (0, "")


def test_results_of_every_type_and_errno_for_one_call(guest: Callable[..., Guest]) -> None:
    client = guest("one()i", "two()i", "d = three(f)f -1.5", "four()v", "five()p", "p = six()p", "seven(pf)i $p+2 $d")
    client.expect("one()i")
    client.fail(ENOENT)
    printed = iter(["one -1 errno 2\n", "two -1 errno 0\n", "three 0.1\n", "four void\n", "five NULL errno 13\n"])

    def print_one() -> None:
        _, address, size = client.expect("write(ipi)i")
        client.printed[1] += client.memory(address, size)
        client.send(b"i", size)

    print_one()
    client.expect("two()i")
    client.send(b"i", -1)
    print_one()
    assert client.expect("three(f)f") == (-1.5,)
    client.send(b"f", data=struct.pack("<d", 0.1))
    print_one()
    client.expect("four()v")
    client.send(b"v")
    print_one()
    client.expect("five()p")
    client.fail(13, 0, b"p")
    print_one()
    expected = "".join(printed).replace("0.1", f"{0.1:.17g}")
    assert client.printed[1].decode() == expected
    client.expect("six()p")
    client.send(b"p", 0x1000)
    print_one()
    assert client.expect("seven(pf)i") == (0x1002, 0.1)
    client.send(b"i", 2**63 - 1)
    assert client.finish() == expected + "six 0x1000\nseven 9223372036854775807\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (b"Q", "sandbox: unknown command, byte 81\n"),
        (b"\0", "sandbox: unknown command, byte 0\n"),
        (b"v", "sandbox: wrong type of result, byte 118\n"),
        (b"p" + bytes(8), "sandbox: wrong type of result, byte 112\n"),
        (b"f" + bytes(8), "sandbox: wrong type of result, byte 102\n"),
        (b"M" + b"\xff" * 8, "sandbox: out of memory for -1\n"),
        (b"R" + struct.pack("<QQ", 16, 1), "sandbox: cannot write: errno 14\n"),
        (b"W" + struct.pack("<QQ", 16, 1) + b"x", "sandbox: cannot read: errno 14\n"),
    ],
)
def test_it_aborts_on_what_is_not_a_command(guest: Callable[..., Guest], command: bytes, words: str) -> None:
    client = guest("getpid()i")
    client.expect("getpid()i")
    client.send(command)
    assert client.request() is None
    assert client.end() == (-signal.SIGABRT, words)


@pytest.mark.parametrize("sent", [b"", b"i\1\2\3", b"R", b"E\2", b"M" + struct.pack("<Q", 9) + b"x"])
def test_it_ends_quietly_with_its_controller(guest: Callable[..., Guest], sent: bytes) -> None:
    client = guest("getpid()i")
    client.expect("getpid()i")
    client.send(sent)
    assert client.end() == (0, "")


def test_a_home_that_is_not_there(program: Path) -> None:
    client = Guest(program, "-c", "say hello")
    client.expect("_pypy_init_home()p")
    client.send(b"p", 0)
    assert client.finish() == "hello\n"
    assert client.end() == (0, "")


# --- statements -------------------------------------------------------------------------------------------------------


def test_printing_goes_on_after_short_writes(guest: Callable[..., Guest]) -> None:
    client = guest("say some words ", "-getpid()i", "# nothing", "", "- x = getpid()i", "exit 3")
    printed = b""
    while not printed.endswith(b"\n"):
        _, address, size = client.expect("write(ipi)i")
        printed += client.memory(address, min(size, 4))
        client.send(b"i", min(size, 4))
    assert printed == b"some words \n"
    for _ in range(2):
        client.expect("getpid()i")
        client.send(b"i", 5)
    assert client.request() is None
    assert client.end() == (3, "")


def test_printing_that_fails_ends_it(guest: Callable[..., Guest]) -> None:
    client = guest("say words", "say more")
    client.expect("write(ipi)i")
    client.fail(28)
    assert client.request() is None
    assert client.end() == (1, "client: cannot print: errno 28\n")


def test_strings_in_memory_of_the_controller(guest: Callable[..., Guest]) -> None:
    client = guest("-e = get_environ()p", "texts e", '-v = getenv(p)p "B"', "string $v", "string $v+1", "string $home")
    client.expect("get_environ()p")
    addresses = [client.malloc(text + b"\0") for text in (b"A=1", b"B=two")]
    client.send(b"p", client.malloc(struct.pack("<3Q", *addresses, 0)))

    def answer(client: Guest, signature: str, arguments: tuple[Any, ...]) -> None:
        assert signature == "getenv(p)p"
        assert client.string(arguments[0]) == b"B"
        client.send(b"p", addresses[1] + 2)

    assert client.finish(answer) == "A=1\nB=two\ntwo\nwo\n/lib\n"


def test_echo_repeats_what_it_reads(guest: Callable[..., Guest]) -> None:
    client = guest("echo", "repeat 2 say x")
    client.input = b"one\n\0two\nlast"
    assert client.finish() == "one\n\0two\nlastx\nx\n"


def serve_file(text: bytes) -> Callable[[Guest, str, tuple[Any, ...]], None]:
    """An `answer` that has the file /box/main as descriptor 7; all other calls fail."""
    left = [text[:10], text[10:], b""]

    def answer(client: Guest, signature: str, arguments: tuple[Any, ...]) -> None:
        if signature == "open(pii)i" and client.string(arguments[0]) == b"/box/main":
            client.send(b"i", 7)
        elif signature == "read(ipi)i" and arguments[0] == 7:
            client.store(arguments[1], left[0])
            client.send(b"i", len(left.pop(0)))
        elif signature == "close(i)i" and arguments == (7,):
            client.send(b"i", 0)
        else:
            client.fail(ENOENT)

    return answer


def test_a_program_in_a_file_and_its_words(guest: Callable[..., Guest]) -> None:
    client = guest(arguments=("-S", "-E", "/box/main", "-x", "two words"))
    assert client.finish(serve_file(b"say hello\nargs\n")) == "hello\n/box/main\n-x\ntwo words\n"
    assert [call[0] for call in client.calls[2:7]] == ["open(pii)i", *["read(ipi)i"] * 3, "close(i)i"]
    assert client.end() == (0, "")


def test_a_file_that_is_not_there(guest: Callable[..., Guest]) -> None:
    client = guest(arguments=("/box/other",))
    client.finish(serve_file(b""))
    assert client.printed == {1: b"", 2: b"client: line 0: cannot open: /box/other\n"}
    assert client.end() == (1, "")


def test_a_prompt_goes_on_after_a_fault(guest: Callable[..., Guest]) -> None:
    client = guest(arguments=("-i",))
    client.input = b"say one\nnonsense\nsay two\n"
    assert client.finish() == ">>>> one\n>>>> >>>> two\n>>>> "
    assert client.printed[2] == b"client: line 2: not a statement: nonsense\n"
    assert client.end() == (0, "")


@pytest.mark.parametrize("arguments", [("-",), ("-S",)])
def test_statements_from_the_input_without_a_prompt(guest: Callable[..., Guest], arguments: tuple[str, ...]) -> None:
    client = guest(arguments=arguments)
    client.input = b"say one\nsay two"
    assert client.finish() == "one\ntwo\n"


@pytest.mark.parametrize(
    "line",
    [
        "getpid()",
        "getpid)(i",
        "getpid(x)i 1",
        f"many({'i' * 33})i {'1 ' * 33}",
        "getpid(i)i",
        "getpid()i 1",
        "getpid(i)i 12x",
        "getpid(f)f one",
        'open(p)i "no end',
        r'open(p)i "\q"',
        "getpid(p)i @nothing",
        "text nothing",
        "buffer b",
        "raw 1",
        "frobnicate",
        "x" * 400,
    ],
)
def test_a_statement_that_is_none_ends_the_program(guest: Callable[..., Guest], line: str) -> None:
    client = guest("say before", line, "say after")
    assert client.finish() == "before\n"
    assert client.printed[2].startswith(b"client: line 2: ")
    assert client.end() == (1, "")


# --- misbehaviour -----------------------------------------------------------------------------------------------------


def test_raw_bytes_and_half_a_request(guest: Callable[..., Guest]) -> None:
    client = guest("raw 09 67657470 69642829 69", "half ff 41", "say never")
    assert client.expect("getpid()i") == ()
    assert client.requests.read() == b"\xffA"
    assert client.end() == (0, "")


@pytest.mark.parametrize(
    ("fd", "words"), [(0, "sandbox: cannot read: errno 9\n"), (1, "sandbox: cannot write: errno 9\n")]
)
def test_descriptors_that_it_closes(guest: Callable[..., Guest], fd: int, words: str) -> None:
    client = guest(f"close {fd}", "getpid()i")
    assert client.requests.read() == (b"\x09getpid()i" if fd == 0 else b"")
    assert client.end() == (-signal.SIGABRT, words)


def test_a_crash(guest: Callable[..., Guest]) -> None:
    client = guest("crash")
    assert client.request() is None
    assert client.end() == (-signal.SIGSEGV, "")


def test_it_spins_until_it_is_killed(guest: Callable[..., Guest]) -> None:
    client = guest("say now", "spin")
    client.expect("write(ipi)i")
    client.send(b"i", 4)
    client.commands.close()  # a guest that reads would see the end
    assert client.process.poll() is None
    client.process.kill()
    assert client.end() == (-signal.SIGKILL, "")


def test_quiet_reads_and_says_nothing(guest: Callable[..., Guest]) -> None:
    client = guest("quiet", "say never")
    client.send(b"Q" * 100)
    client.commands.close()
    assert client.requests.read() == b""
    assert client.end() == (0, "")


def test_a_flood(guest: Callable[..., Guest]) -> None:
    client = guest("flood 200000")
    assert client.finish() == "x" * 200_000
    assert max(int(arguments[-1]) for name, arguments in client.calls if name == "write(ipi)i") == 65_536


@pytest.mark.parametrize(
    ("length", "claimed", "follows"), [(3, 3, 3), (5000, 5000, 5000), (0, 0, 0), (-1, NO_LIMIT, 2**20)]
)
def test_lies_about_a_string(guest: Callable[..., Guest], length: int, claimed: int, follows: int) -> None:
    client = guest(f"lie {length}", '-open(p)i "word"')
    (address,) = client.expect("open(p)i")
    client.send(b"Z", address, NO_LIMIT)
    assert client.u64() == claimed
    assert client.requests.read(follows) == b"x" * follows
    assert client.string(address) == b"word"  # it lies once only
    client.send(b"i", 0)
    assert client.finish() == ""


def test_lies_about_memory(guest: Callable[..., Guest]) -> None:
    client = guest("lie 9", '-open(p)i "word"')
    (address,) = client.expect("open(p)i")
    client.send(b"R", address, 4)
    assert client.requests.read(9) == b"x" * 9
    client.send(b"i", 0)
    assert client.finish() == ""


def test_native_calls_go_past_the_wire(guest: Callable[..., Guest]) -> None:
    client = guest("native 39", "native 3 -1", "p = native 39", "say end")  # getpid, close
    pid = client.process.pid
    assert client.finish() == f"native {pid}\nnative -1 errno 9\nnative {pid}\nend\n"


# --- a PyPy's start ---------------------------------------------------------------------------------------------------

ONCE = ("uname", "get_environ", "time", "access", "geteuid", "getuid", "getegid", "getgid")
MANY = (
    *(("readdir", 454), ("stat64", 146), ("gettimeofday", 114), ("fstat64", 75), ("lseek", 54), ("open", 50)),
    *(("read", 48), ("close", 24), ("mkdir", 12), ("getenv", 11), ("isatty", 9), ("opendir", 4), ("closedir", 4)),
    *(("lstat64", 3), ("write", 2)),
)
COUNTS = dict(MANY) | dict.fromkeys(ONCE, 1)
FIRST = ["getenv", "uname", *["getenv"] * 5, "open", "getenv", "getenv", "gettimeofday"]


def names(client: Guest) -> list[str]:
    """The names of a client's calls, without those of its start and of its last line."""
    return [signature.partition("(")[0] for signature, _ in client.calls[2:-1]]


def test_a_start_makes_the_calls_of_a_start(guest: Callable[..., Guest]) -> None:
    """Each call gets the answer of an existing library."""
    paths: set[bytes] = set()

    def answer(client: Guest, signature: str, arguments: tuple[Any, ...]) -> None:
        name = signature.partition("(")[0]
        if name in ("open", "stat64", "lstat64", "mkdir", "opendir", "access"):
            paths.add(client.string(arguments[0]))
        client.send(signature[-1].encode(), {"opendir": 0x1000, "open": 5}.get(name, 0))

    client = guest("startup $home")
    assert client.finish(answer) == "42\nstartup 1018\n"
    assert Counter(names(client)) == COUNTS
    assert names(client)[: len(FIRST)] == FIRST
    assert {path.split(b"/")[1] for path in paths} == {b"lib"}
    assert {b"/lib/lib-python/3", b"/lib/lib_pypy", b"/lib/lib-python/3/os.py", b"/lib/lib_pypy/os.py"} <= paths
    assert client.end() == (0, "")


def test_a_start_without_a_library_makes_as_many(guest: Callable[..., Guest]) -> None:
    client = guest("startup /nowhere")

    def refuse(client: Guest, signature: str, _: tuple[Any, ...]) -> None:
        client.fail(ENOENT, -1 if signature[-1] == "i" else 0, signature[-1].encode())

    assert client.finish(refuse) == "42\nstartup 1018\n"
    assert Counter(names(client)) == {
        **{name: count for name, count in COUNTS.items() if name not in ("readdir", "closedir")},
        "stat64": 146 + 454 + 4,
    }

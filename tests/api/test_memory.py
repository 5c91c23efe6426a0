"""Programs that run out of memory, run in three ways: whatever error they raise then, the status names the limit."""

from collections.abc import Callable, Iterator

import pytest

import proxybox
from proxybox import Result, Sandbox, Status
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from proxybox.result import lacked_memory, read_error, told_by

EACH_GUEST = True
LIMITS = {"memory": "200M", "cpu_time": 60, "wall_time": 200}

#: Fills the memory of a program before it does something else.
FILL = "kept = []\ntry:\n  while True: kept.append(bytearray(10 ** 6))\nexcept MemoryError as error:\n  "
ONE = "try: kept = bytearray(10 ** 10)\nexcept MemoryError as error: "
STACKS = """
import threading
threading.stack_size(1 << 26)
for _ in range(15): threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
ENDS = {
    "many objects": ("kept = []\nwhile True: kept.append(bytearray(10 ** 6))", Status.MEMORY_LIMIT),
    "one object": ("kept = bytearray(10 ** 10)", Status.MEMORY_LIMIT),
    "goes on": (f"{FILL}kept = None", Status.OK),
    "goes on without one object": (f"{ONE}pass", Status.OK),
    "another exception comes of it": (f"{ONE}raise ValueError('no') from error", Status.MEMORY_LIMIT),
    "another exception comes on the way": (f"{ONE}1 / 0", Status.MEMORY_LIMIT),
    "a library's own exception": ("class OwnMemoryError(Exception): pass\nraise OwnMemoryError", Status.MEMORY_LIMIT),
    "the loader of libraries": (
        "raise ImportError('x.so: failed to map segment from shared object\\n\\nPlease read ...')", Status.MEMORY_LIMIT,
    ),
    "a library that tells an errno": (
        "raise RuntimeError('mmap failed: Cannot allocate memory (os error 12)')", Status.MEMORY_LIMIT
    ),
    "another exception": ("raise ValueError('no memory of that')", Status.ERROR),
    "an exception after one that was handled": (f"{ONE}error = None\nraise ValueError('no')", Status.ERROR),
}  # fmt: skip

Ways = dict[str, Callable[[str], Result]]


@pytest.fixture(scope="module")
def ways(guest_kind: str) -> Iterator[Ways]:
    def in_session(code: str) -> Result:
        with warm.session() as session:
            return session.exec(code)

    with Sandbox(warm=False, limits=LIMITS) as cold, Sandbox(warm=True, limits=LIMITS) as warm:
        warm.run("pass")
        yield {"a box": cold.run, "a warm box": warm.run, "a session": in_session}
    zygotepool.close()
    reaper.settle()


@pytest.mark.parametrize("way", ["a box", "a warm box", "a session"])
@pytest.mark.parametrize("name", ENDS)
def test_how_programs_end(ways: Ways, name: str, way: str) -> None:
    code, status = ENDS[name]
    result = ways[way](code)
    assert result.status is status, result


@pytest.mark.cpython
@pytest.mark.parametrize("way", ["a box", "a warm box", "a session"])
def test_stacks_of_threads(ways: Ways, way: str) -> None:
    """They are address space, little of which is used. The stacks of PyPy are small anyway (stub_recursion.c)."""
    result = ways[way](STACKS)
    assert result.ok, result
    # more than half of the limit is used: from there on stacks count
    result = ways[way](f"used = bytearray(150 << 20)\n{STACKS}")
    assert result.status is Status.MEMORY_LIMIT, result


@pytest.mark.parametrize("way", ["a box", "a warm box"])
@pytest.mark.parametrize("words", ["raise SystemExit(3)", "raise SystemExit('no memory')", "raise KeyError"])
def test_a_program_that_had_no_memory_left_and_gives_up(ways: Ways, words: str, way: str) -> None:
    result = ways[way](f"{FILL}pass\nkept = None\n{words}")
    assert (result.status, result.why) == (Status.MEMORY_LIMIT, "limits.memory"), result


def test_the_last_words_of_libraries() -> None:
    for words in (
        "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.",
        "/usr/bin/python3: cannot allocate memory for thread-local data: ABORT",
        "memory allocation of 4096 bytes failed\nnote: run with `RUST_BACKTRACE=1` environment variable to display",
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc",
    ):
        error, _ = read_error(f"something\n{words}\n")
        assert error is not None, words
        assert told_by(error, "", {}, False) == (Status.MEMORY_LIMIT, "limits.memory")
        assert lacked_memory(False, f"{words}\n".encode())
        assert not lacked_memory(False, f"{words}\nand more\n".encode())
        assert read_error(f"{words}\nand more\n") == (None, False)


def test_an_earlier_traceback_led_to_nothing() -> None:
    """Only tracebacks that were printed as a cause of the last exception belong to it."""
    traceback = 'Traceback (most recent call last):\n  File "x", line 1\n{}\n'
    cause = "\nDuring handling of the above exception, another exception occurred:\n\n"
    memory, other, last = map(traceback.format, ("MemoryError", "KeyError: 1", "ValueError: 2"))
    for printed, lacks in (
        (memory + cause + last, True),
        (memory + cause + other + cause + last, True),
        (memory + last, False),
        (memory + cause + other + last, False),
        (memory + other + cause + last, False),
        (cause + last, False),
    ):
        error, _ = read_error(printed)
        assert error is not None
        assert error.type == "ValueError"
        assert (told_by(error, printed, {}, False) is not None) == lacks, printed


def test_a_thread_that_the_policy_refuses_is_told() -> None:
    code = "import threading\nthreading.Thread(target=print).start()"
    with Sandbox(warm=False, limits={"threads": 1}) as box:
        for result in (box.run(code), box.session().exec(code)):
            assert (result.status, result.why) == (Status.ERROR, "limits.threads refused a thread"), result
        caught = "import threading\ntry: threading.Thread(target=print).start()\nexcept RuntimeError: {}\n"
        assert box.run(caught.format("pass")).why == ""
        assert box.run(caught.format("1 / 0")).why == ""
        waits = box.run(caught.format("\n  while True: pass"), timeout=0.5)
    assert (waits.status, waits.why) == (Status.TIME_LIMIT, "limits.wall_time; limits.threads refused a thread")


def test_what_would_have_to_wait_is_no_thread() -> None:
    code = "import os\nread, _ = os.pipe2(os.O_NONBLOCK)\nos.read(read, 1)"
    result = proxybox.run(code, limits={"threads": 1})
    assert (result.status, result.why) == (Status.ERROR, ""), result

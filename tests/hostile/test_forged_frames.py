"""Frames without the stub: hostile code writes any bytes to the box's own pipe.

Each frame ends as an answer or as `misbehaved`; the controller is never harmed.
"""

import pytest

from proxybox.controller.header import A_FILE, CALL_ROOM, CODE, FOR_USE, RESERVED

EACH_GUEST = True

LIES = {
    "a size of zero": "struct.pack('<I', 0) + bytes(52)",
    "a size below the header": "raw.frame(39, size=55)",
    "a size of 4 GiB": "raw.frame(39, size=0xFFFFFFFF)",
    "a size above the bound": "raw.frame(39, size=(1 << 20) + (1 << 16) + 1)",
    "garbage": "bytes(range(256)) * 8",
    "text": "b'GET / HTTP/1.1\\r\\n\\r\\n' * 4",
    "a path that is not there": "raw.frame(2, (0, 0, 0))",
    "a path longer than the frame": "raw.frame(2, (1, 0, 0)) [:0] + struct.pack('<II6QI', 64, 2, *[0] * 6, 5000) + b'abcd'",
    "a path with a NUL inside": "raw.frame(2, (1, 0, 0), [b'/tmp\\0/x'])",
    "a path of 5,000 bytes": "raw.frame(2, (1, 0, 0), [b'x' * 5000])",
    "a path, and more": "raw.frame(2, (1, 0, 0), [b'/tmp', b'more'])",
    "a buffer shorter than its count": "raw.frame(1, (1, 0, 100), [b'short'])",
    "a buffer longer than its count": "raw.frame(1, (1, 0, 1), [b'longer'])",
    "a structure of another size": "raw.frame(35, (1, 0), [b'abc'])",
    "gathered bytes above the bound": "raw.frame(20, (1, 1, 1), [bytes((1 << 20) + 1)])",
    "two frames in one piece": "raw.frame(39) * 2",
    "a frame and a half": "raw.frame(39) + raw.frame(39)[:20]",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_lying_frame_ends_its_box(hostile, lie):
    result = hostile.run(f"""
import raw, struct
raw.exchange(raw.put({lie}), raw.SLEEP)
""")
    assert result.status == "misbehaved", result
    assert result.why
    assert result.stdout == result.stderr == ""


@pytest.mark.cover(1)
@pytest.mark.parametrize("marker", ["0xFFFFFFFF", "0xFFFFFFFE", "0xFFFFFFFD", "0xFFFFFFFC", "0x80000000"])
@pytest.mark.parametrize("number", [1, 2, 7, 20, 23, 35, 59, 72, 16, 257, 332])
def test_markers_in_place_of_memory(hostile, number, marker):
    """Absent, unreadable and endless memory in arguments where no program has it; other large lengths."""
    result = hostile.run(f"""
import raw
for count in range(1, 7):
    print(raw.ask({number}, (1, 1, 1, 1, 1, 1), [{marker}] * count))
""")
    assert result.status in ("ok", "misbehaved"), result


def test_every_number_in_a_frame(hostile):
    """Unknown numbers are ENOSYS, and so is the stub's first message. The box lives on."""
    out = hostile.ok(f"""
import raw
numbers = [raw.HELLO, raw.FAILED, 0xFFFFFFFF, 0x80000000, 1 << 30, 100000, *range(470, {CALL_ROOM}), 509]
print({{raw.ask(number)[0] for number in numbers}})
""")
    assert out == "{-38}\n"


def test_room_may_be_asked_for_by_anybody(hostile):
    """Hostile code may request room. It gets what is free, as the stub does, and nothing of an unknown kind."""
    out = hostile.ok(f"""
import raw
def room(size, kind): return raw.ask({CALL_ROOM}, (size, kind))[0]
kinds = {FOR_USE}, {RESERVED}, {A_FILE}, {CODE}
print({{room(4096, kind) for kind in kinds}}, {{room(size, kind) for size in (1 << 40, (1 << 64) - 1) for kind in kinds}})
print({{room(4096, kind) for kind in (4, 1 << 31, (1 << 64) - 1)}})
""")
    assert out == "{0} {-12}\n{-22}\n"


def test_a_thread_that_was_not_made_has_to_be_one_that_was_granted(hostile):
    """A report that the kernel refused a clone must name a granted thread that has not begun. Others are ESRCH."""
    out = hostile.ok("""
import os, raw
print({raw.ask(508, (tid, -11 % (1 << 64)))[0] for tid in (0, os.getpid(), os.getpid() + 1, 1 << 31, (1 << 64) - 1)})
""")
    assert out == "{-3}\n"


def test_a_frame_in_single_bytes(hostile):
    out = hostile.ok("""
import raw, os
*_, size = raw.syscalls([*(raw.put(bytes([byte])) for byte in raw.frame(39)), raw.TAKE])
print(raw._inbox.raw[8:size] == os.getpid().to_bytes(8, "little"))
""")
    assert out == "True\n"


def test_half_a_frame_and_silence(hostile):
    result = hostile.run("import raw; raw.exchange(raw.put(raw.frame(39)[:30]), raw.SLEEP)", timeout=0.5)
    assert result.status == "time_limit", result


@pytest.mark.parametrize("size", [1, 3, 4, 30, 55])
def test_a_part_of_a_frame_and_the_end(hostile, size):
    result = hostile.run(f"import raw; raw.exchange(raw.put(raw.frame(39)[:{size}]), raw.LEAVE)")
    assert result.status == "misbehaved", result


@pytest.mark.parametrize("registers", ["(0, (fd, raw.SLEEP[1], 1 << 20))", "(39, ())"], ids=["large", "small"])
def test_replies_that_nobody_reads(hostile, registers):
    """The pipe of replies fills up. The caller waits no longer than the policy's limit."""
    result = hostile.run(
        f"""
import raw, os
fd = os.open("/dev/zero", os.O_RDONLY)
request = raw.put(raw.frame(*{registers}))
raw.exchange(*[request] * 100000)
""",
        timeout=0.4,
    )
    assert result.status in ("time_limit", "misbehaved"), result
    assert result.usage.wall - result.usage.start < 3


@pytest.mark.parametrize("more", ["raw.frame(39)", "raw.frame(39)[:1]"], ids=["whole", "part"])
def test_a_second_call_before_the_answer(hostile, more):
    """The second call comes while the first waits on an empty pipe."""
    result = hostile.run(f"""
import raw, os
fd, _ = os.pipe()
raw.exchange(raw.put(raw.frame(0, (fd, raw.SLEEP[1], 1))), *[(24,)] * 10000, raw.put({more}), raw.SLEEP)
""")
    assert result.status == "misbehaved", result


def test_a_forged_end(hostile):
    """A frame reports exit_group, and the process goes on: the caller waits no longer than the policy's limit."""
    result = hostile.run("import raw; raw.exchange(raw.put(raw.frame(231, (0,))), raw.SLEEP)", timeout=0.4)
    assert result.status == "time_limit", result
    assert result.usage.wall - result.usage.start < 3


def test_the_end_without_a_word(hostile):
    """After a native exit_group without a report the exit status is the kernel's."""
    result = hostile.run("import raw; print('x', flush=True); raw.syscall(231, 77, raw.ROUTE)")
    assert (result.status, result.exit_code, result.stdout) == ("error", 77, "x\n")


def test_the_end_of_the_main_thread_without_a_word(hostile):
    result = hostile.run("import raw; raw.syscall(60, 7, raw.ROUTE)")
    assert (result.status, result.exit_code) == ("error", 7)


def test_channels_that_were_never_given(hostile):
    """Descriptors in the filter's range that do not exist are EBADF."""
    out = hostile.ok("""
import raw
page = raw.code(bytes(64))
print({raw.syscall(number, fd, page, 8, raw.ROUTE) for number in (0, 1) for fd in range(5, 35)})
""")
    assert out == "{-9}\n"


def test_the_wrong_ends_of_the_channel(hostile):
    out = hostile.ok("""
import raw
page = raw.code(bytes(64))
print(raw.syscall(0, 4, page, 8, raw.ROUTE), raw.syscall(1, 3, page, 8, raw.ROUTE))
""")
    assert out == "-9 -9\n"


def test_answers_are_for_whoever_reads_them(hostile):
    """The controller never writes the guest's memory, whatever address a forged call has: the answer goes to the
    pipe.
    """
    out = hostile.ok("""
import raw
print(raw.ask(79, (0xdeadbeef000, 100)))  # getcwd
""")
    assert "/box" in out


@pytest.mark.parametrize("count", ["1 << 63", "(1 << 64) - 1", "1 << 40", "(1 << 31) - 1"])
def test_huge_counts(hostile, count):
    """Calls such as read, getrandom, getdents64 and readlink with lengths larger than any memory."""
    before = hostile.resident()
    hostile.ok(
        f"""
import raw, os
zero = os.open("/dev/zero", os.O_RDONLY); folder = os.open("/", os.O_RDONLY)
page = raw.code(bytes(4096)); path = raw.code(b"/proc/self/exe\\0")
import ctypes
for call in ((0, zero, page, {count}), (17, zero, page, {count}, 0), (318, page, {count}, 0), (217, folder, page, {count}),
             (89, path, page, {count}), (79, page, {count}), (40, 1, zero, 0, {count}), (7, page, {count}, 0),
             (19, zero, page, {count}), (20, 1, page, {count}), (1, 1, page, {count}), (232, 9, page, {count}, 0)):
    raw.syscall(call[0], *(0 if word == page and call[0] in (0, 17, 318) else word for word in call[1:]))
print("done")
""",
        output={"limit": "4M"},
    )
    assert hostile.resident() - before < 100 << 20


@pytest.mark.parametrize(
    "call", ["(271, page, 0, page, 0, 8)", "(23, 0, 0, 0, 0, page)", "(35, page, 0)", "(230, 1, 0, page, 0)"]
)
@pytest.mark.parametrize("seconds", [1 << 40, 1 << 62])
def test_waits_that_outlast_the_universe(hostile, call, seconds):
    """ppoll, select, nanosleep and clock_nanosleep with longer times than a call of the host can have."""
    result = hostile.run(
        f"""
import raw, struct
page = raw.code(struct.pack("qq", {seconds}, 0))
raw.syscall(*{call})
""",
        timeout=0.4,
    )
    assert result.status == "time_limit", result


@pytest.mark.parametrize("seed", range(6))
def test_random_frames(hostile, seed):
    """Frames of the right form with random content, until one is a breach."""
    result = hostile.run(
        f"""
import raw, random
draw = random.Random({seed})
edges = [0, 1, 2, 3, 4, 7, 100, 4096, 1 << 20, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 100]
frames = []
for _ in range(500):
    registers = [draw.choice(edges) if draw.random() < .7 else draw.getrandbits(64) for _ in range(6)]
    frames.append(raw.put(raw.frame(draw.choice([*range(24), *range(25, 34), *range(63, 130), *range(250, 335)]), registers)))
raw.exchange(*(call for each in frames for call in (each, raw.TAKE)))
""",
        timeout=0.4,
    )
    assert result.status in ("misbehaved", "ok", "crashed", "error", "time_limit"), result

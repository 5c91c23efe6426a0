"""Two boxes that try to communicate, and one that tries to slow down the other.

They share pages of the interpreter, libc and the stub, and the kernel's wait queues. If one of these carried a message,
the second box would print it.
"""

import concurrent.futures as futures
import statistics
import threading

import pytest

import proxybox

SAME = {"randomness": 7}  # the same addresses in both boxes

#: Places in files that both boxes have mapped, at functions that nobody calls.
PLACES = """
import ctypes, raw
libc = ctypes.CDLL(None); libc.getauxval.restype = ctypes.c_ulong
places = {
    "libc": ctypes.cast(libc.l64a, ctypes.c_void_p).value & ~7,
    "the stub": raw.stub() + 8,
    "the interpreter": ctypes.cast(libc.PyArg_ValidateKeywordArguments, ctypes.c_void_p).value & ~7,
    "the vDSO": libc.getauxval(33) + 8,
}
"""


def both(hostile, one, other, **options):
    """Runs two boxes at the same time, and returns their results."""
    with futures.ThreadPoolExecutor(2) as pool:
        return [
            each.result()
            for each in (pool.submit(hostile.run, one, **options), pool.submit(hostile.run, other, **options))
        ]


@pytest.mark.parametrize("flags", [0, 128], ids=["shared", "private"])
def test_futexes_on_common_pages(hostile, flags):
    """One box waits for 0.4 seconds on words of shared pages. Meanwhile the other repeatedly wakes all waiters
    there.
    """
    waiter = f"""{PLACES}
import struct
results = []
for name, place in places.items():
    word = ctypes.c_uint32.from_address(place).value
    spec = raw.code(struct.pack("qq", 0, 100_000_000))
    results.append(raw.syscall(202, place, {flags}, word, spec))
print(results)
"""
    waker = f"""{PLACES}
import time
end = time.monotonic() + 0.6
woken = 0
while time.monotonic() < end:
    woken += sum(raw.syscalls([(202, place, 1 | {flags}, 1 << 30) for place in places.values()] * 10))
print(woken)
"""
    waited, woke = both(hostile, waiter, waker, **SAME)
    assert waited.stdout == "[-110, -110, -110, -110]\n", waited
    assert woke.stdout == "0\n", woke


def test_words_written_to_common_pages(hostile):
    """Writing to shared pages makes copies in the writing box. The other box, started meanwhile, sees the old
    content.
    """
    seen = []
    look = f"""{PLACES}
print({{name: ctypes.string_at(place, 8).hex() for name, place in places.items()}})
"""

    def second(text):
        if "written" in text:
            seen.append(hostile.ok(look, **SAME))

    before = hostile.ok(look, **SAME)
    writer = f"""{PLACES}
for name, place in places.items():
    if raw.syscall(10, place & ~4095, 4096, 7) == 0: ctypes.memset(place, 0x5a, 8)
    else: assert name == "the vDSO", name  # which some kernels seal
print("written", flush=True)
import time; time.sleep(0.01)
"""
    result = hostile.run(writer, on_stdout=second, **SAME)
    assert "written" in result.stdout, result
    assert seen == [before]


NAMED = {
    "an anonymous shared mapping": "(9, 0, 4096, 3, 0x21, -1, 0)",
    "a shared mapping of a library": "(9, 0, 4096, 3, 0x1, os.open('/usr/lib/x86_64-linux-gnu/libc.so.6', 0), 0)",
    "merging of pages": "(28, page, 4096, 12)",
    "merging of all pages": "(157, 67, 1, 0, 0, 0)",
    "shmget": "(29, 0x5042, 4096, 0o1666)",
    "shmat": "(30, 0, 0, 0)",
    "semget": "(64, 0x5042, 1, 0o1666)",
    "msgget": "(68, 0x5042, 0o1666)",
    "mq_open": "(240, page, 0o102, 0o666, 0)",
    "add_key": "(248, page, page, 0, 0, -3)",
    "pkey_alloc": "(330, 0, 0)",
}
#: Calls that are granted, but affect this box alone: memory of this process, or advice that has no effect.
GRANTED = {"an anonymous shared mapping", "merging of pages"}


@pytest.mark.parametrize("name", NAMED)
def test_memory_and_names_in_common(hostile, name):
    """Segments, queues, keys and merged pages are refused, or belong to this box alone."""
    out = hostile.ok(f"""
import os, raw
page = raw.check(raw.syscall(9, 0, 4096, 3, 0x22, -1, 0))
print(raw.syscall(*{NAMED[name]}))
""")
    assert int(out) < 0 or name in GRANTED, out


def test_merged_pages_are_not_asked_for(hostile):
    """Whatever madvise returns, no page of the guest is a candidate for merging (ksm): the kernel's counters show
    that.
    """
    from pathlib import Path

    counted = []

    def look(_):
        for pid in hostile.guests():
            try:
                counted.append(Path(f"/proc/{pid}/ksm_stat").read_text())
            except OSError:  # another user's process, or an old kernel
                counted.append("")

    out = hostile.ok(
        """
import raw
page = raw.check(raw.syscall(9, 0, 1 << 20, 3, 0x22, -1, 0))
answers = {raw.syscall(28, page, 1 << 20, advice) for advice in (12,)}
print(answers)
print("look", flush=True)
""",
        on_stdout=lambda text: look(text) if "look" in text else None,
    )
    assert counted
    assert not [text for text in counted if "ksm_rmap_items" in text and "ksm_rmap_items 0" not in text]
    assert not [text for text in counted if "ksm_mergeable: yes" in text or "ksm_merge_any: yes" in text], out


ANONYMOUS = """
import mmap, raw, ctypes
m = mmap.mmap(-1, 4096)
m[:5] = {word!r}
print(bytes(m[:5]), flush=True)
import time; time.sleep(0.2)
print(bytes(m[:5]))
"""


def test_shared_anonymous_memory_is_each_boxs_own(hostile):
    one, other = both(hostile, ANONYMOUS.format(word=b"first"), ANONYMOUS.format(word=b"other"), **SAME)
    assert one.stdout == "b'first'\n" * 2
    assert other.stdout == "b'other'\n" * 2


# --- a box that would slow the other down -----------------------------------------------------------------------------

NEIGHBOUR = """
import os, time
spent = []
for _ in range(300):
    before = time.perf_counter_ns()
    os.getppid()
    spent.append(time.perf_counter_ns() - before)
print(spent)
"""

BAD = {
    "nothing": "import time; time.sleep(1e6)",
    "never reads": "import raw\nmade = raw.words([raw.put(raw.frame(0, (fd, raw.SLEEP[1], 1 << 20))) for fd in [__import__('os').open('/dev/zero', 0)]])\nraw.batch(made)\nraw.exchange(raw.SLEEP)",
    "half a frame": "import raw; raw.exchange(raw.put(raw.frame(39)[:30]), raw.SLEEP)",
    "single bytes of a frame without end": "import raw\nmade = raw.words([raw.put(b'\\x00\\x00\\x10\\x00')] + [raw.put(b'x')] * 200000)\nraw.batch(made)\nraw.exchange(raw.SLEEP)",
    "unknown numbers": "import raw\nfor number in range(0x5000, 1 << 32, 0x11111): raw.ask(number)\nraw.exchange(raw.SLEEP)",
    "a storm of calls": "import os\nwhile True: os.getppid()",
    "large payloads": "import os\nf = os.open('/dev/zero', 0)\nwhile True: os.read(f, 1 << 20)",
    "denials": "import socket\nwhile True:\n    try: socket.socket()\n    except OSError: pass",
    "threads": "import threading\ndef f():\n    while True: pass\nfor _ in range(7): threading.Thread(target=f, daemon=True).start()\nf()",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_neighbour_is_served_meanwhile(hostile, bad, capsys):
    """Calls of a neighbour are answered. The test prints how long each took, but does not check it."""
    started = threading.Event()
    with proxybox.Sandbox(limits={"cpu_time": 60, "calls": None}) as box, futures.ThreadPoolExecutor(1) as pool:
        attack = pool.submit(
            box.run,
            "print('started', flush=True)\n" + bad,
            files=hostile.files,
            timeout=200,
            on_stdout=lambda _: started.set(),
        )
        assert started.wait(200)
        try:
            out = hostile.ok(NEIGHBOUR, timeout=200)
        finally:
            box.close()
        result = attack.result()
    spent = eval(out)
    assert len(spent) == 300
    assert result.status in ("cancelled", "misbehaved", "time_limit"), result
    with capsys.disabled():
        print(f" [round trip {statistics.median(spent) / 1000:.0f} us, longest {max(spent) / 1000:.0f}] ", end="")


def test_all_unknown_numbers_in_a_sample(hostile):
    """A sample of the 2^32 numbers in equal steps, and all edges, are ENOSYS. The stored counts are bounded."""
    result = hostile.run(
        """
import raw
step = 0x2a1b3
numbers = [*range(1000, 1 << 32, step), *(base + offset for base in (1 << 16, 1 << 30, 1 << 31, (1 << 32) - 3, raw.OWN_CALLS) for offset in range(3))]
answers = set()
for at in range(0, len(numbers), 100):
    made = raw.words([call for number in numbers[at:at + 100] for call in (raw.put(raw.frame(number)), raw.TAKE, (24,))])
    raw.batch(made)
    answers.add(raw.ctypes.c_int64.from_buffer(raw._inbox, 8).value)
    del raw._pages[-100:]
print(answers)
""",
        limits={"calls": None, "cpu_time": 20},
    )
    assert result.stdout == "{-38}\n", result.summary() + result.stderr
    assert len(result.unknown_calls) <= 256

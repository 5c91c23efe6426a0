"""A program that repeatedly asks whether something is ready needs no OS calls, and still sees it become ready.

Each case runs without an observer, and once more with an audit: then each check is a call to the controller.
"""

import os
import threading
from typing import Any

import pytest

import proxybox
from proxybox import OSCall

LOOKS = 2000
PROLOGUE = f"""
import asyncio, ctypes, os, select, signal, socket, threading, time
look = select.epoll()
reader, writer = os.pipe()
look.register(reader, select.EPOLLIN)
def nothing(): return all(look.poll(0) == [] for _ in range({LOOKS}))
def until_ready():
    end = time.monotonic() + 200
    while not (found := look.poll(0)): assert time.monotonic() < end
    return found
def failing(call, *words):
    try: return call(*words)
    except OSError as error: return error.errno
assert nothing()
"""
CASES = {
    "its own write": "os.write(writer, b'x'); assert look.poll(0) == [(reader, 1)] and look.poll(0) == [(reader, 1)]",
    "read, and empty again": """
for _ in range(3): os.write(writer, b'x'); assert look.poll(0) and os.read(reader, 9) == b'x' and nothing()
""",
    "a write by a system call": """
assert ctypes.CDLL(None).syscall(1, writer, b"x", 1) == 1 and look.poll(0) == [(reader, 1)]
""",
    "the last writer has closed": "os.close(writer); assert look.poll(0) == [(reader, 16)]",
    "a thread": """
def write(): time.sleep(0.02); os.write(writer, b'x')
thread = threading.Thread(target=write); thread.start()
assert until_ready() == [(reader, 1)]; thread.join()
""",
    "threads that write and look": """
def count(look, reader, writer, done):
    for _ in range(300):
        os.write(writer, b'x')
        while not look.poll(0): pass
        assert os.read(reader, 9) == b'x' and look.poll(0) == []
    done.append(1)
def one():
    look, (reader, writer) = select.epoll(), os.pipe()
    look.register(reader, select.EPOLLIN)
    return look, reader, writer
done = []
threads = [threading.Thread(target=count, args=(*one(), done)) for _ in range(4)]
for each in threads: each.start()
for each in threads: each.join()
assert len(done) == 4
""",
    "a thread whose write waits for room": """
for size in (60000, 100000, 300000):
    got, thread = 0, threading.Thread(target=os.write, args=(writer, bytes(size))); thread.start()
    while got < size: assert until_ready() == [(reader, 1)]; got += len(os.read(reader, 65536))
    thread.join()
""",
    "a thread that sends more than there is room": """
a, b = socket.socketpair(); look.register(a, select.EPOLLIN); assert nothing()
got, thread = 0, threading.Thread(target=b.sendall, args=(bytes(500000),)); thread.start()
while got < 500000: assert until_ready() == [(a.fileno(), 1)]; got += len(a.recv(65536))
thread.join()
""",
    "a thread that waits in a call meanwhile": """
idle, end = os.pipe(); thread = threading.Thread(target=os.read, args=(idle, 1)); thread.start()
for _ in range(100): os.write(writer, b'x'); assert until_ready() and os.read(reader, 9) == b'x' and not look.poll(0)
os.write(end, b'x'); thread.join()
""",
    "a thread that echoes": """
back, answer = os.pipe()
other = select.epoll(); other.register(back, select.EPOLLIN)
def echo():
    for _ in range(200):
        until_ready(); os.write(answer, os.read(reader, 9))
thread = threading.Thread(target=echo); thread.start()
for number in range(200):
    os.write(writer, bytes([number]))
    while not other.poll(0): pass
    assert os.read(back, 9) == bytes([number])
thread.join()
""",
    "a signal's byte": """
a, b = socket.socketpair(); b.setblocking(False)
signal.signal(signal.SIGALRM, lambda *_: None); signal.set_wakeup_fd(b.fileno())
look.register(a, select.EPOLLIN); assert nothing()
signal.setitimer(signal.ITIMER_REAL, 0.02)
assert until_ready() == [(a.fileno(), 1)] and a.recv(9) == bytes([signal.SIGALRM])
""",
    "what is watched changes": """
other, end = os.pipe(); os.write(end, b'x')
look.register(other, select.EPOLLIN); assert look.poll(0) == [(other, 1)]
look.unregister(other); assert nothing()
look.modify(reader, select.EPOLLIN | select.EPOLLET); os.write(writer, b'x')
assert look.poll(0) == [(reader, 1)] and nothing(); os.write(writer, b'x'); assert look.poll(0) == [(reader, 1)]
""",
    "room to write": """
os.set_blocking(writer, False)
while failing(os.write, writer, bytes(4096)) == 4096: pass
look.unregister(reader); look.register(writer, select.EPOLLOUT); assert nothing()
os.read(reader, 65536); assert look.poll(0) == [(writer, 4)]
""",
    "a counter": """
libc = ctypes.CDLL(None); counter = libc.eventfd(0, 0); look.register(counter, select.EPOLLIN); assert nothing()
os.write(counter, (5).to_bytes(8, 'little')); assert look.poll(0) == [(counter, 1)]
""",
    "two instances": """
other = select.epoll(); end, start = os.pipe(); other.register(end, select.EPOLLIN); os.write(start, b'x')
for _ in range(5): assert look.poll(0) == [] and other.poll(0) == [(end, 1)]
""",
    "closed": "fd = look.fileno(); os.close(fd); assert failing(select.epoll.fromfd(fd).poll, 0) == 9",
    "closed, and the number used again": """
fd = look.fileno(); os.close(fd); assert os.open('/dev/null', 0) == fd
assert failing(select.epoll.fromfd(fd).poll, 0) == 22
""",
    "no room for events": """
libc = ctypes.CDLL(None, use_errno=True); place = ctypes.create_string_buffer(120)
for room in (0, -1): assert libc.epoll_wait(look.fileno(), place, room, 0) == -1 and ctypes.get_errno() == 22
assert libc.epoll_wait(look.fileno(), ctypes.c_void_p(8), 10, 0) == 0
os.write(writer, b'x')
assert libc.epoll_wait(look.fileno(), ctypes.c_void_p(8), 10, 0) == -1 and ctypes.get_errno() == 14
""",
    "then a wait": "os.write(writer, b'x'); assert look.poll(0) and look.poll(5) == [(reader, 1)] and look.poll()",
    "an event loop": """
async def main():
    loop, heard = asyncio.get_running_loop(), []
    loop.add_reader(reader, lambda: heard.append(os.read(reader, 9)))
    loop.add_signal_handler(signal.SIGALRM, heard.append, 'alarm')
    for _ in range(300): await asyncio.sleep(0)
    os.write(writer, b'x')
    while not heard: await asyncio.sleep(0)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    while len(heard) < 2: await asyncio.sleep(0)
    await asyncio.to_thread(heard.append, 'thread')
    done = loop.run_in_executor(None, time.sleep, 0.02)
    while not done.done(): await asyncio.sleep(0)
    return heard
assert asyncio.run(main()) == [b'x', 'alarm', 'thread']
""",
    "an event loop, and a thread whose write waits": """
async def main():
    got = []
    asyncio.get_running_loop().add_reader(reader, lambda: got.append(len(os.read(reader, 65536))))
    thread = threading.Thread(target=os.write, args=(writer, bytes(200000))); thread.start()
    while sum(got) < 200000: await asyncio.sleep(0)
    thread.join()
os.set_blocking(reader, False)
asyncio.run(main())
""",
}  # fmt: skip


@pytest.mark.sized(5)
@pytest.mark.parametrize("observed", [False, True], ids=["unobserved", "observed"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_program_cannot_tell(case: str, observed: bool) -> None:
    options: dict[str, Any] = {"audit": lambda call: None} if observed else {}
    with proxybox.Sandbox(limits={"wall_time": 300, "cpu_time": 100}, **options) as box:
        result = box.run(PROLOGUE + case)
    assert result.ok, f"{result}\n{result.stderr}"


def test_looks_are_no_calls_where_nobody_observes_them() -> None:
    calls: list[OSCall] = []
    with proxybox.Sandbox() as box, proxybox.Sandbox(audit=calls.append) as observed:
        assert box.run(PROLOGUE).usage.calls < LOOKS
        assert observed.run(PROLOGUE).usage.calls > LOOKS
    assert sum(1 for call in calls if call.name == "epoll_wait" and call.number == 232) == LOOKS


def test_a_session_that_is_observed_later_sees_each_look() -> None:
    calls: list[OSCall] = []
    with proxybox.Sandbox() as box, box.session() as session:
        session.exec(PROLOGUE)
        session.audit(calls.append)
        session.exec("assert nothing()")
        assert sum(1 for call in calls if call.name == "epoll_wait") == LOOKS
        session.audit(None)
        before = session.usage.calls
        session.exec("assert nothing()")
        assert session.usage.calls - before < 50


def test_what_the_host_writes_is_seen() -> None:
    """Standard input becomes ready without a call of the program."""
    code = """
import select
look = select.epoll()
look.register(0, select.EPOLLIN)
print("looks", flush=True)
while not look.poll(0): pass
print(input())
"""
    source, end = os.pipe()

    def answer(text: str) -> None:
        if "looks" in text:
            threading.Timer(0.05, os.write, (end, b"heard\n")).start()

    with os.fdopen(source) as stdin, proxybox.Sandbox(limits={"wall_time": 300, "cpu_time": 100, "calls": None}) as box:
        result = box.run(code, stdin=stdin, on_stdout=answer)
    os.close(end)
    assert result.ok, f"{result}\n{result.stderr}"
    assert result.stdout == "looks\nheard\n"


@pytest.mark.parametrize("limit", ["cpu_time", "wall_time"])
def test_who_looks_for_ever_is_ended(limit: str) -> None:
    with proxybox.Sandbox(limits={"wall_time": 300, "cpu_time": 100, limit: 0.5}) as box:
        result = box.run(PROLOGUE + "while not look.poll(0): pass")
    assert result.status == "time_limit"
    assert limit in str(result)

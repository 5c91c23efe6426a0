"""Guests that open as many files as they can: they get ENFILE, and neither a neighbour nor the caller does."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def held_by(source: str, *arguments: str) -> str:
    """Runs `source` in a process with a soft limit of 1,024 descriptors, and returns its output."""
    limit = "import resource\nhard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
    limit += "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))\n"
    done = subprocess.run(
        [sys.executable, "-c", limit + source, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with 300 files."""
    made = Path(tempfile.mkdtemp(prefix="files-"))
    for number in range(300):
        (made / str(number)).write_text("contents")
    yield made
    shutil.rmtree(made)


# A session of each driver, behind the same calls.
SESSIONS = """
import contextlib, inspect, os, sys
import anyio
import proxybox

async def told(what):
    return await what if inspect.isawaitable(what) else what

@contextlib.asynccontextmanager
async def sessions(driver, mode, folder, size):
    options = {"filesystem": {"mounts": [{"target": "/there", "source": folder, "mode": mode}]}}
    async with contextlib.AsyncExitStack() as closing:
        if driver == "asyncio":
            box = await closing.enter_async_context(proxybox.AsyncSandbox(**options))
        else:
            box = closing.enter_context(
                proxybox.Pool(size=size, **options) if driver == "pool" else proxybox.Sandbox(**options)
            )
        made = []
        for _ in range(size):
            made.append(await told(box.session()))
            closing.push_async_callback(close, made[-1])
        yield made

async def close(session):
    await told(session.close())

async def value(session, code):
    result = await told(session.eval(code))
    assert result.ok, (result.summary(), result.stderr)
    return result.value
"""

HOGS = (
    SESSIONS
    + """
HOG = '''
import os
def hog(flags=os.O_RDONLY):
    held = []
    try:
        for number in range(300): held.append(os.open("/there/%d" % number, flags))
    except OSError as error: return len(held), error.errno
'''

async def main(driver, mode, folder):
    async with sessions(driver, mode, folder, 6) as (*hostile, neighbour):
        for session in (*hostile, neighbour):
            await told(session.exec(HOG))
        print([await value(session, "hog()") for session in hostile])
        print(await value(neighbour, "[os.open(f'/there/{number}', 0) > 0 for number in range(8)]"))
        mine = [open("/dev/null") for _ in range(256)]
        for file in mine: file.close()
        print(await value(hostile[0], "open('/there/5').read()"))
        await told(hostile[0].exec("os.closerange(3, 256)"))
        print(await value(neighbour, "len([os.open(f'/there/{number}', 0) for number in range(8, 20)])"))

anyio.run(main, *sys.argv[1:])
"""
)
ENFILE = 23


@pytest.mark.sized(1)
@pytest.mark.parametrize(
    ("driver", "mode"),
    [("blocking", "ro"), ("pool", "ro"), ("asyncio", "ro"), ("blocking", "rw"), ("blocking", "overlay")],
)
def test_five_boxes_that_open_all_they_can(folder: Path, driver: str, mode: str) -> None:
    hogs, neighbour, shared, later = held_by(HOGS, driver, mode, str(folder)).splitlines()
    taken = eval(hogs)
    assert [error for _, error in taken] == [ENFILE] * 5
    assert [count for count, _ in taken] == [136, 72, 40, 24, 16]
    assert neighbour == str([True] * 8)
    assert shared == "contents"  # already open, so it takes no other descriptor
    assert later == "12"


NEW = (
    SESSIONS
    + """
async def main(driver, folder):
    async with sessions(driver, "rw", folder, 1) as (session,):
        await told(session.exec('''
import os
def make():
    held = []
    try:
        for number in range(300): held.append(os.open("/there/new%d" % number, os.O_CREAT | os.O_WRONLY))
    except OSError as error:
        return len(held), error.errno, sorted(name for name in os.listdir("/there") if name.startswith("new"))[-1]
'''))
        print(await value(session, "make()"))
        print(os.path.exists(folder + "/new136"))

anyio.run(main, *sys.argv[1:])
"""
)


def test_a_file_that_could_not_be_kept_open_is_not_made(folder: Path) -> None:
    try:
        seen, exists = held_by(NEW, "blocking", str(folder)).splitlines()
    finally:
        for path in folder.glob("new*"):
            path.unlink()
    assert seen == str((136, ENFILE, "new99"))
    assert exists == "False"


THREADS = (
    SESSIONS
    + """
async def main(driver, folder):
    async with sessions(driver, "ro", folder, 1) as (session,):
        await told(session.exec('''
import os, threading
held = []
def hog():
    try:
        while True: held.append(os.open("/there/%d" % len(held), 0))
    except OSError as error: return len(held), error.errno
def start(count):
    event, threads = threading.Event(), []
    try:
        for _ in range(count):
            thread = threading.Thread(target=event.wait)
            thread.start()
            threads.append(thread)
    except RuntimeError: pass
    event.set()
    for thread in threads: thread.join()
    return len(threads)
'''))
        print(await value(session, "start(3)"), await value(session, "hog()"), await value(session, "start(5)"))
        await told(session.exec("os.closerange(3, 256)"))
        print(await value(session, "start(10)"))

anyio.run(main, *sys.argv[1:])
"""
)


@pytest.mark.parametrize("driver", ["blocking", "asyncio"])
def test_channels_of_threads_count_as_well(folder: Path, driver: str) -> None:
    """Channels also count: they stay for later threads, with two descriptors each."""
    first, second = held_by(THREADS, driver, str(folder)).splitlines()
    assert first == f"3 {(130, ENFILE)} 3"
    assert second == "10"


LIMITED = """
import os, sys
import proxybox
mount = {"target": "/there", "source": sys.argv[1], "mode": "rw"}
code = '''
import os, time
names = ["/there/0", "/there/1"]
print(len(os.listdir("/there")), flush=True)
input()
for call in (lambda: os.listdir("/there"), lambda: os.stat("/there/0"), lambda: os.open("/there/0", 0),
             lambda: os.open("/there/more", os.O_CREAT | os.O_WRONLY), lambda: os.mkdir("/there/folder"),
             lambda: os.rename("/there/0", "/there/1"), lambda: os.unlink("/there/0"), lambda: os.readlink("/there/0")):
    try: call()
    except OSError as error: print(error.errno)
input()
print(len(os.listdir("/there")))
'''
held = []
def line(prompt=None):
    if not held:
        try:
            while True: held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError: pass
    else:
        for fd in held: os.close(fd)
    return b"\\n"
result = proxybox.run(code, stdin=line, filesystem={"mounts": [mount]})
print(result.summary() if not result.ok else result.stdout, end="")
"""


def test_a_caller_without_descriptors_is_a_full_system_to_the_guest(folder: Path) -> None:
    """Calls of the guest then fail with ENFILE, not with EMFILE, and the box goes on."""
    before = sorted(os.listdir(folder))
    assert held_by(LIMITED, str(folder)).split() == ["300", *[str(ENFILE)] * 8, "300"]
    assert sorted(os.listdir(folder)) == before

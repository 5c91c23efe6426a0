"""What a guest can make the controller store and compute is bounded, whatever it requests.

Each program makes the same request as often as it can. A callback at the end of the program measures how much memory
this process has gained while the box lives.
"""

import pytest

import proxybox

STORING = {
    "paths that are not there": "n = 0\nwhile go(): n += 1; stat('/tmp/' + 'x' * 200 + '/' * 3500 + str(n))",
    "long names that are not there": "n = 0\nwhile go(): n += 1; stat(('/' + 'y' * 250) * 15 + str(n))",
    "paths through dots": "n = 0\nwhile go(): n += 1; stat('/tmp/../' * 400 + str(n))",
    "descriptors of folders that were listed": """
import os
for n in range(1500): open(f'/tmp/{n:0200}', 'w').close()
held = []
while go() and len(held) < 200: fd = os.open('/tmp', os.O_RDONLY); libc.getdents64(fd, page, 300); held.append(fd)
""",
    "bytes in pipes": "import os\nends = []\ntry:\n    while go(): r, w = os.pipe(); os.set_blocking(w, False); os.write(w, bytes(1 << 16)); ends.append(r)\nexcept OSError: pass",
    "enlarged pipes": "import os, fcntl\ntry:\n    while go(): r, w = os.pipe(); fcntl.fcntl(w, 1031, 1 << 20); os.set_blocking(w, False); os.write(w, bytes(1 << 20))\nexcept OSError: pass",
    "bytes in sockets": "import socket\nheld = []\ntry:\n    while go():\n        a, b = socket.socketpair(); a.setblocking(False); held.append((a, b))\n        try:\n            while True: a.send(bytes(1 << 16))\n        except BlockingIOError: pass\nexcept OSError: pass",
    "record locks": "import fcntl, os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT)\nn = 0\nwhile go():\n    n += 2\n    try: fcntl.lockf(f, fcntl.LOCK_EX, 1, n)\n    except OSError: break",
    "signals that wait": "import signal, os\nsignal.pthread_sigmask(0, range(34, 65))\nfor n in range(34, 65): signal.signal(n, print)\nwhile go():\n    try: os.kill(os.getpid(), 40)\n    except OSError: break",
    "watched descriptors": "import select, os\nheld = []\nfds = [os.dup(0) for _ in range(200)]\ntry:\n    while go():\n        e = select.epoll(); held.append(e)\n        for fd in fds: e.register(fd)\nexcept OSError: pass",
    "hidden mappings": "import os, raw\nf = os.open('/usr/lib/x86_64-linux-gnu/libc.so.6', os.O_RDONLY)\nwhile go(): raw.ask(9, (0, 4096, 1, 2, f, 0))",
    "denials": "import os\nn = 0\nwhile go():\n    n += 1\n    try: os.mkdir(f'/usr/lib/{n}')\n    except OSError: pass",
    "unknown calls": "import raw\nn = 0\nwhile go(): n += 1; raw.ask(5000 + n)",
    "unlinked files": "import os\nheld = []\nwhile go() and len(held) < 200:\n    f = os.open('/tmp/x', os.O_RDWR | os.O_CREAT); os.unlink('/tmp/x')\n    try: os.write(f, bytes(1 << 20))\n    except OSError: pass\n    held.append(f)",
    "files that come and go": "import os\nwhile go(): open('/tmp/x', 'w').close(); os.unlink('/tmp/x')",
    "renamed files": "import os\nopen('/tmp/0', 'w').close()\nn = 0\nwhile go(): os.rename(f'/tmp/{n}', f'/tmp/{n + 1}'); n += 1",
    "folders that come and go": "import os\nwhile go(): os.mkdir('/box/d'); os.rmdir('/box/d')",
    "names in the overlay": "import os\nn = 0\nwhile go():\n    n += 1\n    open(f'/box/{n}', 'w').close(); os.unlink(f'/box/{n}')",
    "sparse writes": "import os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT)\nn = 0\nwhile go():\n    n += 1\n    try: os.pwrite(f, b'x', n << 30)\n    except OSError: break",
    "attributes": "import os\nopen('/tmp/x', 'w').close()\nn = 0\nwhile go():\n    n += 1\n    try: os.setxattr('/tmp/x', f'user.{n}', bytes(60000))\n    except OSError: break",
    "small writes": "import os\nwhile go(): os.write(1, b'a'); os.write(2, b'b')",
    "names of the thread": "import ctypes\nwhile go(): ctypes.CDLL(None).prctl(15, b'x' * 15)",
}

FRAME = """
import ctypes, os, sys, time
import raw
libc, page = ctypes.CDLL(None), ctypes.create_string_buffer(70000)
end = time.monotonic() + 0.6
def go(): return time.monotonic() < end
def stat(path):
    try: os.stat(path)
    except OSError: pass
exec(PROGRAM)
os.write(2, b"MEASURE")
"""


@pytest.mark.parametrize("code", STORING.values(), ids=STORING.keys())
def test_memory_of_the_controller(hostile, code):
    before, grown = hostile.resident(), []

    def measure(text):
        if "MEASURE" in text:
            grown.append(hostile.resident() - before)

    result = hostile.run(
        FRAME.replace("PROGRAM", repr(code)), on_stderr=measure, timeout=100,
        limits={"calls": None, "disk": "16M", "files": 2000}, output={"limit": "4M"},
    )  # fmt: skip
    assert result.status in ("ok", "error", "disk_limit"), result.summary() + result.stderr
    assert grown or result.status != "ok", result
    assert not grown or grown[0] < 100 << 20, f"{grown[0] >> 20} MiB"
    hostile.run("1")
    assert hostile.resident() - before < 100 << 20


COMPUTING = {
    "the longest path": "while True: stat('/tmp/' + './' * 2040)",
    "a path of dots": "while True: stat('../' * 1360)",
    "links to links": "import os\nlast = '/tmp'\nfor n in range(38): os.symlink(last + '/' + './' * 1000, f'/tmp/l{n}'); last = f'l{n}'\nwhile True: stat('/tmp/' + last)",
    "a tree that doubles": "import os\nfor n in range(39): os.symlink('/'.join([f'm{n - 1}' if n else '.'] * 2), f'/tmp/m{n}')\nwhile True: stat('/tmp/m38')",
    "poll of many": "import raw, ctypes\np = raw.code(bytes(8 * 130000))\nwhile True: raw.syscall(7, p, 130000, 0)",
    "select of many": "import raw\np = raw.code(b'\\xff' * 400)\nwhile True: raw.syscall(23, 1024, p, p + 128, p + 256, raw.code(bytes(16)))",
    "many pieces": "import raw, struct\np = raw.code(struct.pack('QQ', raw.code(bytes(16)), 1) * 1024)\nf = 1\nwhile True: raw.syscall(20, 2, p, 1024)",
    "a folder of thousands": "import os\nfor n in range(1900): open(f'/tmp/{n}', 'w').close()\nwhile True: os.listdir('/tmp')",
    "large reads": "import os\nf = os.open('/dev/urandom', os.O_RDONLY)\nwhile True: os.read(f, 1 << 20)",
    "large copies": "import os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT); os.truncate(f, 1 << 40)\nimport raw\nwhile True: raw.syscall(326, f, 0, f, raw.code(bytes(8)), 1 << 40, 0)",
    "sendfile of nothing": "import os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT); os.truncate(f, 1 << 40)\nout = os.open('/tmp/y', os.O_RDWR | os.O_CREAT)\nwhile True: os.lseek(out, 0, 0); os.sendfile(out, f, 0, 1 << 40)",
    "holes": "import os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT); os.truncate(f, 1 << 50)\nwhile True:\n    try: os.pread(f, 1 << 20, 1 << 49); os.lseek(f, 0, getattr(os, 'SEEK_DATA', 0))\n    except OSError: pass",
    "closing all": "import raw\nwhile True: raw.syscall(436, 3, 0xffffffff, 0)",
    "very deep folders": "import os\nfor n in range(1900): os.mkdir('d'); os.chdir('d')\nwhile True:\n    try: os.getcwd()\n    except OSError: pass",
    "alarms that are always due": "import signal, time\nsignal.signal(14, lambda *a: None)\nsignal.setitimer(0, 1e-6, 1e-6)\nwhile True: time.sleep(10)",
    "a truncation back and forth": "import os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT)\nwhile True: os.pwrite(f, b'x', 15 << 20); os.truncate(f, 0)",
    "renames of a large tree": "import os\nfor a in range(40):\n    os.mkdir(f'/tmp/t{a}')\n    for b in range(40): os.mkdir(f'/tmp/t{a}/{b}')\nn = 0\nwhile True: os.rename('/tmp/t0', '/tmp/u'); os.rename('/tmp/u', '/tmp/t0'); stat('/tmp/t3/3'); stat('/usr/lib/pypy3.11/os.py')",
}


@pytest.mark.parametrize("code", COMPUTING.values(), ids=COMPUTING.keys())
def test_time_of_the_controller(hostile, code):
    """No single call takes so long that a time limit comes late or a neighbour has to wait."""
    import concurrent.futures as futures

    with futures.ThreadPoolExecutor(2) as pool:
        bad = pool.submit(
            hostile.run,
            FRAME.replace("PROGRAM", repr(code)),
            timeout=0.7,
            limits={"calls": None, "disk": "16M", "files": 2000},
        )
        good = pool.submit(
            proxybox.run, "import os\nfor _ in range(300): os.stat('/etc/passwd')\nprint('served')", timeout=100
        )
        result, neighbour = bad.result(), good.result()
    assert result.status == "time_limit", result.summary() + result.stderr
    assert result.usage.wall < 2.5, result.usage
    assert neighbour.stdout == "served\n", neighbour
    assert neighbour.usage.wall < 8, neighbour.usage

"""Hostile programs in recorded boxes: they may damage their own record, and nothing else."""

import asyncio
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import Status
from tests.recordings.rewriting import frames_of

LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None); libc.syscall.restype = ctypes.c_long\n"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run.pbx"


def run(code: str, record: Path, **fields: Any) -> proxybox.Result:
    with proxybox.Sandbox(guest="cpython", **fields) as box:
        return box.run(code, record=record)


@pytest.mark.parametrize("fd", ["f", "777", "os.open('/dev/zero', 0)"])
def test_an_answer_that_looks_like_a_mapping_is_none(fd: str, record: Path) -> None:
    """The value LIBRARY is also an offset that lseek(2) may return."""
    code = f"{LIBC}f = os.open('/tmp/x', 66); os.ftruncate(f, 1 << 42)\n"
    code += f"print(libc.syscall(8, f, ctypes.c_long(1 << 41), 0, ctypes.c_long(0), ctypes.c_long({fd})))"
    result = run(code, record, limits={"wall_time": 20, "disk": None})
    assert (result.status, result.stdout, result.record_fault) == (Status.OK, f"{1 << 41}\n", ""), result.stderr
    assert proxybox.replay(record, guest="cpython").ok


def test_large_requests_are_recorded_and_do_not_fill_the_memory(record: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = "import os\nfd = os.open('/dev/null', os.O_WRONLY)\nfor _ in range(100): os.write(fd, os.urandom(1 << 20))"
    result = run(code, record, limits={"wall_time": 100, "cpu_time": 100})
    assert (result.status, result.record_fault) == (Status.OK, "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120 << 10
    assert proxybox.replay(record, guest="cpython").ok


def test_the_guest_pays_for_the_packing_of_its_record(record: Path) -> None:
    """Random bytes cost the recorder's thread 20 ms per MiB: if that were free, 200 MiB would be within the limit."""
    code = "import os\nfor _ in range(200): os.urandom(1 << 20)\nprint('all of them')"
    result = run(code, record, limits={"wall_time": 100, "cpu_time": 1})
    assert (result.status, result.why) == (Status.TIME_LIMIT, "limits.cpu_time"), result.stdout
    assert result.usage.controller > 1


def test_a_call_that_fills_a_thousand_buffers_is_recorded(record: Path) -> None:
    code = "import os\nopen('/tmp/x', 'wb').write(b'ab' * 9000); fd = os.open('/tmp/x', 0)\n"
    code += "pieces = [bytearray(9) for _ in range(1000)]; print(os.readv(fd, pieces), pieces[999])"
    result = run(code, record)
    assert (result.status, result.record_fault) == (Status.OK, "")
    assert proxybox.replay(record, guest="cpython").ok


def test_many_files_with_long_names_are_told_at_the_end(record: Path) -> None:
    code = "for n in range(9000): open(f'{n:0240}', 'w').close()"
    result = run(code, record, limits={"files": 20_000, "disk": "256M", "wall_time": 100, "cpu_time": 100})
    assert (result.status, result.record_fault, len(result.files)) == (Status.OK, "", 9000)
    done = proxybox.replay(record, guest="cpython")
    assert done.ok
    assert len(done.result.files) == 9000


def test_output_without_a_limit_is_not_kept_for_the_record(record: Path) -> None:
    printed = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = "import sys\nfor _ in range(300): sys.stdout.write('x' * (1 << 20))"
    with proxybox.Sandbox(output={"limit": None}, limits={"wall_time": 100, "cpu_time": 100}) as box:
        result = box.run_program(
            proxybox.Program.source(code),
            record=record,
            capture=False,
            on_stdout=lambda data: printed.append(len(data)),
        )
    assert result.ok
    assert sum(printed) == 300 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_a_record_is_a_regular_file(kind: str, tmp_path: Path) -> None:
    path = {"fifo": tmp_path / "fifo", "device": Path("/dev/null"), "folder": tmp_path}[kind]
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises((proxybox.SandboxStartError, proxybox.PolicyError), match="record"):
        run("print(1)", path)


def test_a_record_is_its_owners_alone(record: Path) -> None:
    run("print(1)", record)
    assert record.stat().st_mode & 0o777 == 0o600


def test_neighbours_go_on_while_a_record_is_written(tmp_path: Path) -> None:
    async def both() -> list[proxybox.Result]:
        async with proxybox.AsyncSandbox() as box:
            heavy = "import os\nfor _ in range(60): os.write(1, os.urandom(1 << 14))"
            return list(await asyncio.gather(
                box.run(heavy, record=tmp_path / "a.pbx"), *(box.run("print(1)") for _ in range(4))
            ))  # fmt: skip

    assert all(result.ok and not result.record_fault for result in asyncio.run(both()))


def test_a_program_cannot_put_another_record_in_the_place_of_its_own(record: Path, tmp_path: Path) -> None:
    signing = pytest.importorskip("proxybox.records.signing", reason="the extra sign is not installed")
    from tests.recordings.keys import made

    key, forged = made(tmp_path / "key"), tmp_path / "forged.pbx"
    run("print('score 100')", forged)
    result = run("print('score 5')", record)
    os.replace(forged, record)
    with pytest.raises(proxybox.RecordError, match="another one than the run has left"):
        signing.sign(record, key, result.record_digest)


def test_an_interrupt_in_the_middle_of_a_note_does_no_harm(record: Path) -> None:
    with proxybox.Sandbox() as box, box.session(record=record) as session:
        session.exec("import os")
        begun = time.monotonic()
        session.exec("for _ in range(5000): os.getppid()")
        session.interrupt()
        assert session.exec("print(1)").stdout in ("1\n", "")
        assert time.monotonic() - begun < 30
    assert frames_of(record)


def test_a_record_is_its_owners_alone_where_a_file_was_there(record: Path) -> None:
    record.write_text("open to all")
    record.chmod(0o666)
    run("print(1)", record)
    assert record.stat().st_mode & 0o777 == 0o600

"""The parts of a Result that a replay computes itself, and those that it names as taken from the record."""

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox.controller.audit import Denial
from proxybox.controller.record.encoding import Encoder
from proxybox.controller.record.events import CallEvent, DenialEvent, RecordedAnswer
from proxybox.controller.record.format import FrameKind
from proxybox.controller.wire.protocol import encode_request
from proxybox.records.record import Record
from proxybox.records.writes import Writes
from proxybox.result import Change
from tests.recordings.madeup import ADDRESS, made_up, openat
from tests.recordings.rewriting import changed, with_start
from tests.recordings.test_attacks_by_records import changed_calls, number

GETSID, SETUID = 124, 105
PROGRAM = """
import ctypes, os, shutil
libc = ctypes.CDLL(None)
libc.syscall(124, 0), libc.syscall(105, 0), libc.syscall(165, 0, 0, 0, 0, 0), libc.syscall(451)
with open("made.txt", "w") as file: file.write("A" * 20)
os.makedirs("folder/inner"); open("folder/inner/x", "wb").write(bytes(5000)); os.rename("folder", "moved")
with open("moved/inner/x", "r+b") as file: file.seek(4990); file.write(b"end of file"); file.truncate(5010)
os.remove("old.txt")
"""


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("claims") / "run.pbx"
    proxybox.run(PROGRAM, files={"old.txt": "old"}, record=path).check()
    return path.read_bytes()


@pytest.fixture
def record(taken: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "run.pbx"
    path.write_bytes(taken)
    return path


def ended(record: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Changes the dict of END."""

    def change_json(data: bytes) -> bytes:
        seen = json.loads(data)
        change(seen)
        return json.dumps(seen).encode()

    return changed(record, FrameKind.END, change_json)


def parts(record: Path) -> str:
    """Returns why a replay parts from the record."""
    done = proxybox.replay(record)
    assert not done.ok
    assert done.divergence is not None
    return done.divergence.why


def test_an_honest_record_is_replayed(record: Path) -> None:
    done = proxybox.replay(record)
    assert done.ok, done.divergence
    assert {change.name for change in done.result.files.changes} >= {"made.txt", "moved/inner/x"}
    assert Denial("setuid", "EPERM", "the user is the policy's") in done.result.denials
    assert done.result.unknown_calls == {451: 1}
    assert not [each for each in done.claims if "changed files" in each or "policy" in each]


def test_refusals_are_those_of_the_calls(record: Path) -> None:
    assert parts(ended(record, lambda seen: seen.update(denials=[]))) == (
        "what was refused is another than in the recorded run"
    )


def test_unknown_calls_are_those_that_were_made(record: Path) -> None:
    assert parts(ended(record, lambda seen: seen.update(unknown=[[452, 1]]))).startswith("what was refused")


@pytest.mark.parametrize("call", [GETSID, SETUID])
def test_what_the_policy_answers_is_its_answer(call: int, record: Path) -> None:
    def other(event: CallEvent) -> None:
        event.answer = RecordedAnswer(0)
        event.effects = tuple(each for each in event.effects if not isinstance(each, DenialEvent))

    changed_calls(record, lambda event: number(event) == call, other)
    assert "the policy answers this call with" in parts(record)


def test_a_refusal_that_was_made_up_is_none(record: Path) -> None:
    def refused(event: CallEvent) -> None:
        event.effects = (*event.effects, DenialEvent("getsid", "EPERM", "made up"))

    changed_calls(record, lambda event: number(event) == GETSID, refused)
    assert "the policy answers this call with" in parts(record)


@pytest.mark.parametrize("seen", [{"proxybox": "0.0.9"}, {"intercepted": True}, {"intercepted": None}])
def test_what_others_may_have_answered_is_a_claim(seen: dict[str, Any], record: Path) -> None:
    with_start(record, lambda start: start.update(seen))
    changed_calls(
        record, lambda event: number(event) == GETSID, lambda event: setattr(event, "answer", RecordedAnswer(0))
    )
    done = proxybox.replay(record)
    assert done.ok, done.divergence
    assert any(each.startswith("that the policy answers") for each in done.claims)


def test_interceptors_may_answer_in_the_place_of_the_policy(tmp_path: Path) -> None:
    path = tmp_path / "run.pbx"

    def root(call: proxybox.OSCall) -> proxybox.Answer | None:
        return proxybox.Answer(0) if call.name == "getuid" else None

    with proxybox.Sandbox(interceptors=[root]) as box:
        assert box.run("import os; print(os.getuid())", record=path).stdout == "0\n"
    assert proxybox.replay(path).ok


# --- changed files ----------------------------------------------------------------------------------------------------


def test_the_content_of_a_changed_file_is_what_was_written(record: Path) -> None:
    changed(record, FrameKind.CONTENT, lambda data: data.replace(b"A" * 20, b"B" * 20))
    assert parts(record) == "the record tells of other changed files: something else was written to made.txt"


def test_a_file_that_was_not_written_is_none(record: Path) -> None:
    name, other = (text.encode().hex().encode() for text in ("made.txt", "evil.txt"))
    changed(record, FrameKind.CONTENT, lambda data: data.replace(name, other))
    seen = proxybox.replay(record)
    assert not seen.ok or any("evil.txt" in each for each in seen.claims)


def written(code: str, path: Path, **options: Any) -> tuple[Writes, proxybox.Result]:
    """Runs a program, and returns what its calls say about its files, and its result."""
    result = proxybox.run(code, record=path, **options).check()
    with Record(path) as read:
        writes = Writes(read.policy.environment.cwd)
        for call in read.calls():
            writes.follow(call)
    return writes, result


WAYS = {
    "appended": "open('a', 'w').write('1'); open('a', 'a').write('2'); f = open('a', 'r+'); f.seek(1); f.write('xyz')",
    "pieces": "import os; fd = os.open('b', os.O_RDWR | os.O_CREAT | os.O_EXCL)\n"
              "os.write(fd, b'onetwo'); os.pwrite(fd, b'T', 3); os.lseek(fd, 10, 0); os.write(fd, b'end')",
    "copies": "import os; fd = os.open('c', os.O_WRONLY | os.O_CREAT | os.O_TRUNC); other = os.dup(fd)\n"
              "os.write(fd, b'1'); os.write(other, b'2'); os.close(fd); os.write(other, b'3'); os.ftruncate(other, 2)",
    "moved": "import os; open('d.tmp', 'w').write('d'); os.replace('d.tmp', 'd'); os.link('d', 'e')",
    "sqlite": "import sqlite3; c = sqlite3.connect('f.db'); c.execute('create table t (a)'); c.commit(); c.close()",
    "in folders": "import os; os.mkdir('g'); os.chdir('g'); open('h', 'w').write('h'); os.chmod('h', 0o600)",
    "removed": "import os, shutil; os.makedirs('i/j'); open('i/j/k', 'w').write('k'); shutil.rmtree('i')",
    "by descriptors": "import os; fd = os.open('.', os.O_RDONLY)\n"
                      "n = os.open('l', os.O_WRONLY | os.O_CREAT, dir_fd=fd)\n"
                      "os.write(n, b'l'); os.rename('l', 'm', src_dir_fd=fd, dst_dir_fd=fd)",
    "made empty": "import os; os.mknod('o', 0o600)",
    "left open": "import ctypes, os; fd = os.open('p', os.O_WRONLY | os.O_CREAT | os.O_EXCL)\n"
                 "ctypes.CDLL(None).syscall(436, 3, 99, 4); os.write(fd, b'p')",  # CLOSE_RANGE_CLOEXEC
    "zip": "import zipfile\nwith zipfile.ZipFile('n.zip', 'w') as z: z.writestr('a', 'x' * 1000)",
}  # fmt: skip
SURE = ("pieces", "copies", "removed", "made empty", "left open", "zip")


@pytest.mark.parametrize("way", WAYS)
def test_honest_writes_differ_in_nothing(way: str, tmp_path: Path) -> None:
    writes, result = written(WAYS[way], tmp_path / "run.pbx")
    changes = result.files.changes
    assert writes.differs(changes) == ""
    if way in SURE:
        assert list(writes.unsure_of(changes)) == []
    assert proxybox.replay(tmp_path / "run.pbx").ok


def test_what_was_there_before_is_unsure(tmp_path: Path) -> None:
    writes, result = written("open('a', 'r+').write('X')", tmp_path / "run.pbx", files={"a": "abc"})
    assert writes.differs(result.files.changes) == ""
    assert list(writes.unsure_of(result.files.changes)) == ["a"]
    claims = proxybox.replay(tmp_path / "run.pbx").claims
    assert "the content of changed files: a" in claims


def test_a_mapping_and_a_link_are_unsure(tmp_path: Path) -> None:
    code = """
import mmap, os
with open("a", "w+b") as file:
    file.write(bytes(4096)); file.flush()
    with mmap.mmap(file.fileno(), 4096) as memory: memory[:3] = b"abc"
os.symlink("a", "b")
open("b", "w").write("through a link")
"""
    writes, result = written(code, tmp_path / "run.pbx")
    assert writes.differs(result.files.changes) == ""
    assert "a" in list(writes.unsure_of(result.files.changes))
    assert proxybox.replay(tmp_path / "run.pbx").ok


# --- programs that write much, or in an odd way -----------------------------------------------------------------------

MAKE, CLOSE_RANGE, RENAME = 0o301, 436, 82  # O_WRONLY, O_CREAT and O_EXCL


def followed(path: Path, fill: Callable[[Encoder], Iterator[None]]) -> tuple[Writes, float]:
    """Returns what made-up calls say about files, and the CPU time for reading them."""
    writes, begun = Writes("/box"), time.process_time()
    with Record(made_up(path, fill)) as read:
        for call in read.calls():
            writes.follow(call)
    return writes, time.process_time() - begun


def added(name: str, content: bytes = b"") -> Change:
    return Change(name=name, path=name.encode(), kind="added", type="file", mode=0o644, content=content)


def test_files_with_holes_are_not_kept_whole(tmp_path: Path) -> None:
    """In a box each of these files is one page, and its size is any number."""

    def fill(encoder: Encoder) -> Iterator[None]:
        for at in range(40):
            encoder.call(0, 0, openat(b"/box/%d" % at, MAKE), 9)
            encoder.call(0, 0, encode_request(18, (9, ADDRESS, 1, 32 << 20), (b"x",)), 1)
            encoder.call(0, 0, encode_request(77, (9, 60 << 20)), 0)
            yield

    tracemalloc.start()
    try:
        writes, _ = followed(tmp_path / "run.pbx", fill)
        assert tracemalloc.get_traced_memory()[1] < 600 << 20
    finally:
        tracemalloc.stop()
    changes = [added("1"), added("39")]
    assert writes.differs(changes) == "something else was written to 1"
    assert list(writes.unsure_of(changes)) == ["39"]


@pytest.mark.full
def test_many_descriptors_are_not_kept(tmp_path: Path) -> None:
    def fill(encoder: Encoder) -> Iterator[None]:
        for at in range(120_000):
            encoder.call(0, 0, openat(b"/box/a", MAKE), 3 + at)
            yield

    writes, _ = followed(tmp_path / "run.pbx", fill)
    assert list(writes.unsure_of([added("a")])) == ["a"]


def test_to_rename_a_file_does_not_take_longer_where_there_are_many(tmp_path: Path) -> None:
    def fill(encoder: Encoder) -> Iterator[None]:
        for at in range(15_000):
            encoder.call(0, 0, openat(b"/box/%d" % at, MAKE), 9)
            yield
        for at in range(6000):
            encoder.call(0, 0, encode_request(RENAME, (ADDRESS, ADDRESS), (b"/box/%d" % at, b"/box/new%d" % at)), 0)
            yield

    writes, took = followed(tmp_path / "run.pbx", fill)
    assert writes.differs([added("new7", b"other")]) == "something else was written to new7"
    assert took < 10


@pytest.mark.parametrize("way", ["folders", "ranges"])
def test_moves_of_large_folders_are_followed_so_far(way: str, tmp_path: Path) -> None:
    def fill(encoder: Encoder) -> Iterator[None]:
        encoder.call(0, 0, openat(b"/box/a", MAKE), 8)
        for at in range(9000):
            encoder.call(0, 0, openat(b"/box/0/%d" % at, MAKE), 9 + at)
            yield
        for at in range(9000):
            names = b"/box/%d" % at, b"/box/%d" % (at + 1)
            moves = encode_request(RENAME, (ADDRESS, ADDRESS), names)
            encoder.call(0, 0, moves if way == "folders" else encode_request(CLOSE_RANGE, (5, 4, 0)), 0)
            yield

    writes, _ = followed(tmp_path / "run.pbx", fill)
    assert list(writes.unsure_of([added("a")])) == ["a"]

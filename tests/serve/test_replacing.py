"""Files that are replaced as a whole: no reader sees half of one, and a full disk does not prevent a revocation."""

import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxybox.serve import replacing
from proxybox.serve.replacing import read_rewritten, rewrite

#: A user namespace with a mount namespace of its own.
_NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"]


def _why_not() -> str:
    if shutil.which("unshare") is None:
        return "unshare is not installed (util-linux)"
    tried = subprocess.run(
        [*_NAMESPACES, "sh", "-c", "mount -t tmpfs none /tmp"], capture_output=True, text=True, check=False
    )
    return tried.stderr.strip() if tried.returncode else ""


def on_a_small_disk(folder: Path, program: str) -> None:
    """Runs a program in a folder that is a disk of 256 KiB; `fill()` fills that disk."""
    if why := _why_not():
        pytest.skip(f"no disk can be made that is full: {why}")
    begin = (
        "import os\nfrom pathlib import Path\n"
        "def fill():\n"
        "    number = os.open('filler', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "    try:\n"
        "        while True: os.write(number, bytes(4096))\n"
        "    except OSError as error:\n"
        "        assert error.errno == 28, error\n"
    )
    command = f'mount -t tmpfs -o size=256k none "{folder}" && cd "{folder}" && exec "{sys.executable}" -P -'
    ended = subprocess.run(
        [*_NAMESPACES, "sh", "-c", command], input=begin + program, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_keys_are_revoked_and_rotated_on_a_full_disk(tmp_path: Path) -> None:
    on_a_small_disk(
        tmp_path,
        """
from proxybox.serve.keys import Keys, KeysError
keys = Keys("keys.json")
shown = {f"key{number}": keys.add(f"key{number}") for number in range(50)}
assert keys.has_room
fill()
try:
    Path("more").write_bytes(bytes(4096))
    raise AssertionError("the disk is not full")
except OSError:
    pass
for number in range(49):
    keys.revoke(f"key{number}")
    assert keys.has_room
last, _ = keys.rotate("key49", grace=0)
fresh = Keys("keys.json")
assert [fresh.find(key) is not None for key in shown.values()] == [False] * 50
assert fresh.find(last) is not None
""",
    )


def test_what_needs_more_than_was_taken_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    on_a_small_disk(
        tmp_path,
        """
from proxybox.serve.keys import Keys, KeysError
keys = Keys("keys.json")
first = keys.add("first")
fill()
added = 0
try:
    while True:
        keys.add(f"more{added}")
        added += 1
except KeysError as error:
    assert "No space left on device" in str(error), error
assert added > 10
assert len(Keys("keys.json").known()) == 1 + added
keys.revoke("first")
assert Keys("keys.json").find(first) is None
""",
    )


def test_a_file_is_the_newest_text_and_newlines(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in (b"one", b"a longer one", b"x" * 40_000, b"short"):
        assert rewrite(path, text, room=100)
        status, data = read_rewritten(path, 1 << 20)
        assert data.rstrip(b"\n") == text
        assert (status.st_size, status.st_mode & 0o777) == (len(data), 0o600)
    assert sorted(os.listdir(tmp_path)) == ["file", "file.spare"]


@pytest.mark.parametrize("without", ["the call", "the filesystem's support"])
def test_where_names_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str) -> None:
    class Library:
        """A C library without renameat2, or with a filesystem that does not support the flag."""

    def refused(*_: object) -> int:
        ctypes.set_errno(22)
        return -1

    if without != "the call":
        Library.renameat2 = staticmethod(refused)  # type: ignore[attr-defined]
    monkeypatch.setattr(replacing.ctypes, "CDLL", lambda *_, **__: Library)
    path = tmp_path / "file"
    for number in range(3):
        assert rewrite(path, b"%d" % number, room=100)
        assert read_rewritten(path, 100)[1].rstrip(b"\n") == b"%d" % number
    assert (tmp_path / "file.spare").stat().st_size == path.stat().st_size


def test_a_reader_sees_one_text_or_the_next_while_it_is_rewritten(tmp_path: Path) -> None:
    """Each text is one letter. The file that a reader has opened becomes the spare, and is then written in place."""
    path, over = tmp_path / "file", threading.Event()
    rewrite(path, b"a" * 5000, room=0)

    def write() -> None:
        try:
            for number in range(300):
                rewrite(path, b"abcdefgh"[number % 8 : number % 8 + 1] * 5000, room=0)
        finally:
            over.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not over.is_set():
        _, data = read_rewritten(path, 1 << 20)
        assert len(set(data.rstrip(b"\n"))) == 1, data[:100]
        seen.add(data[:1])
    writer.join()
    assert read_rewritten(path, 1 << 20)[1][:1] == b"d"
    assert len(seen) > 1


def test_a_writer_waits_for_who_reads_what_is_now_the_spare(tmp_path: Path) -> None:
    path = tmp_path / "file"
    rewrite(path, b"first", room=0)
    with open(path, "rb") as reading:
        fcntl.flock(reading, fcntl.LOCK_SH)
        rewrite(path, b"second", room=0)
        inode = f":{os.fstat(reading.fileno()).st_ino} "
        writer = threading.Thread(target=rewrite, args=(path, b"third"), kwargs={"room": 0})
        writer.start()
        while not [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line and inode in line]:
            assert writer.is_alive(), "it has not waited"
        assert reading.read().rstrip(b"\n") == b"first"
    writer.join()
    assert read_rewritten(path, 100)[1].rstrip(b"\n") == b"third"


def test_a_reader_takes_nothing_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    rewrite(path, b"whole", room=0)
    with open(path, "rb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="changed all the time"):
            read_rewritten(path, 100)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "file")
    with pytest.raises(OSError, match=r"no regular file|Is a directory"):
        read_rewritten(tmp_path / "file", 100)


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes files for others")
def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    from proxybox.serve.keys import Keys

    os.chown(tmp_path, 1000, 1001)
    keys = Keys(tmp_path / "keys.json")
    keys.add("moodle")
    keys.revoke("moodle")
    names = {name: ((tmp_path / name).stat().st_uid, (tmp_path / name).stat().st_gid) for name in os.listdir(tmp_path)}
    assert names == dict.fromkeys(("keys.json", "keys.json.spare", "keys.json.lock", "keys.json.made"), (1000, 1001))


@pytest.mark.parametrize("beside", ["keys.json.lock", "keys.json.spare"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_what_lies_beside_the_keys_leads_nowhere(
    tmp_path: Path, beside: str, link: Callable[[Path, Path], None]
) -> None:
    """Otherwise root's next change of the keys would give any file to the owner of the folder."""
    from proxybox.serve.keys import Keys, KeysError

    (folder := tmp_path / "data").mkdir()
    keys = Keys(folder / "keys.json")
    shown = keys.add("moodle")
    other = tmp_path / "other"
    other.write_text("of root alone")
    (folder / beside).unlink()
    link(other, folder / beside)
    if os.getuid() == 0:
        os.chown(folder, 1000, 1000)
    before = other.stat()
    with pytest.raises(KeysError, match=rf"{beside}: "):
        keys.revoke("moodle")
    after = other.stat()
    assert (other.read_text(), after.st_uid, after.st_gid) == ("of root alone", before.st_uid, before.st_gid)
    assert keys.find(shown) is not None
    (folder / beside).unlink()
    keys.revoke("moodle")
    assert keys.find(shown) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes files for others")
@pytest.mark.parametrize("name", ["keys.json", "keys.json.lock", "keys.json.spare"])
def test_files_of_keys_that_others_have_made_are_refused(tmp_path: Path, name: str) -> None:
    """The user who made a file may have it open, and could write to it later."""
    from proxybox.serve.keys import Keys, KeysError

    keys = Keys(tmp_path / "keys.json")
    shown = keys.add("moodle")
    os.chown(tmp_path / name, 1000, 1000)
    fresh = Keys(tmp_path / "keys.json")
    with pytest.raises(KeysError, match=rf"{name}: it belongs to another user"):
        fresh.find(shown) if name == "keys.json" else fresh.revoke("moodle")

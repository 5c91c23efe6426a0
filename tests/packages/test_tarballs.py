"""Archives of builds: which members are unpacked, with which modes, and each limit.

tests/guests/test_translated_install.py installs builds, and has hostile archives.
"""

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxybox.packages import tarballs
from proxybox.packages.refusing import NoArchive
from proxybox.packages.tarballs import SourceFolder

FILES = {"pypy/bin/pypy3-c": b"program", "pypy/bin/libpypy3-c.so": b"library", "pypy/lib-python/3/os.py": b"import x"}


def archive(path: Path, files: dict[str, bytes], name: str = "a.tar", *, mode: str = "w", long: int = 0) -> Path:
    """Makes an archive. long: the number of additional headers of the first member."""
    with tarfile.open(path / name, mode, format=tarfile.GNU_FORMAT) as made:
        for file, data in files.items():
            for _ in range(long):
                more = tarfile.TarInfo("././@LongLink")
                more.type, more.size = tarfile.GNUTYPE_LONGNAME, len(file) + 1
                made.addfile(more, io.BytesIO(file.encode() + b"\0"))
            long = 0
            member = tarfile.TarInfo(file)
            member.size, member.mode = len(data), 0o7777
            made.addfile(member, io.BytesIO(data))
    return path / name


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "target").mkdir()
    before = os.umask(0o077)
    yield tmp_path / "target"
    os.umask(before)


def fetched(path: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """Fetches an archive as the helper process does; returns its messages."""
    (target.parent / "downloads").mkdir()
    wanted = {"file": "b.tar", "url": f"file://{path}", "hashes": []}
    wanted["hashes"] = ["sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()]
    downloads = str(target.parent / "downloads")
    tarballs.fetch({"target": str(target), "archives": [wanted], "size": None, "downloads": downloads})
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_files_have_rights_of_ours(tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str], mode: str) -> None:
    said = fetched(archive(tmp_path, {**FILES, "README": b"", "pypy/doc/x": b""}, mode=mode), target, capsys)
    assert said[-2:] == [{"unpacking": "b.tar"}, {"done": 3}]
    found = {str(each.relative_to(target)): stat.S_IMODE(each.stat().st_mode) for each in target.rglob("*")}
    assert found == {
        "pypy3-c": 0o755, "libpypy3-c.so": 0o755, "lib-python": 0o755, "lib-python/3": 0o755,
        "lib-python/3/os.py": 0o644,
    }  # fmt: skip
    assert (target / "lib-python/3/os.py").read_bytes() == b"import x"


def test_a_failure_is_one_line(tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tar").write_bytes(b"no archive" * 200)
    with pytest.raises(SystemExit, match=r"^b\.tar: cannot be unpacked: "):
        fetched(tmp_path / "a.tar", target, capsys)


SIZE = sum(len(data) for data in FILES.values())
READ = 10_240  # tarfile pads an archive to this size, and reads as much at once
BOUNDS = [
    ({"room": SIZE}, ""), ({"room": SIZE - 1}, "more than 512 MiB or 20,000 files and folders"), ({"files": 5}, ""),
    ({"files": 4}, "more than 512 MiB or 20,000 files"), ({"members": 3}, ""), ({"members": 2}, "100,000 members"),
    ({"read": READ + 8}, ""), ({"read": READ - 1}, "to more than 2 GiB"), ({"read": 600}, "to more than 2 GiB"),
]  # fmt: skip


@pytest.mark.parametrize(("bounds", "words"), BOUNDS)
def test_where_the_bounds_are(tmp_path: Path, target: Path, bounds: dict[str, int], words: str) -> None:
    folder, path = SourceFolder(str(target), **bounds), archive(tmp_path, FILES)
    if words:
        with pytest.raises(NoArchive, match=words):
            folder.unpack(path)
    else:
        folder.unpack(path)
        assert folder.kept == 3
        assert [getattr(folder, name) for name in bounds] == [8 if "read" in bounds else 0]


def test_a_member_that_is_larger_than_all_that_may_be_read(tmp_path: Path, target: Path) -> None:
    member = tarfile.TarInfo("elsewhere")
    member.size = 50_000
    (tmp_path / "a.tar").write_bytes(member.tobuf())
    with pytest.raises(NoArchive, match="to more than 2 GiB"):
        SourceFolder(str(target), read=49_999 + 512).unpack(tmp_path / "a.tar")


@pytest.mark.parametrize("before", [4, 5])
def test_so_many_headers_may_say_more_of_one_member(tmp_path: Path, target: Path, before: int) -> None:
    path = archive(tmp_path, FILES, long=before)
    if before == 4:
        SourceFolder(str(target)).unpack(path)
    else:
        with pytest.raises(NoArchive, match="says too much of a member"):
            SourceFolder(str(target)).unpack(path)


@pytest.mark.parametrize(("name", "bound"), [("_MOST_IN_ONE", 17), ("_MOST_IN_ALL", 17)])
def test_headers_may_say_so_much(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, name: str, bound: int
) -> None:
    path = archive(tmp_path, FILES, long=1)
    assert len("pypy/bin/pypy3-c") + 1 == bound
    for most in (bound, bound - 1):
        monkeypatch.setattr(tarballs, name, most)
        if most == bound:
            SourceFolder(str(target)).unpack(path)
        else:
            with pytest.raises(NoArchive, match="says too much of a member"):
                SourceFolder(str(target)).unpack(path)


def test_what_stands_there_is_not_written_through(tmp_path: Path, target: Path) -> None:
    (tmp_path / "mark").write_text("mine")
    (target / "pypy3-c").symlink_to(tmp_path / "mark")
    with pytest.raises(NoArchive, match="there is another pypy3-c"):
        SourceFolder(str(target)).unpack(archive(tmp_path, FILES))
    assert (tmp_path / "mark").read_text() == "mine"

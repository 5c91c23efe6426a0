"""What of an archive is unpacked: bounds, and archives that are broken or odd. test_attacks.py has what would climb."""

import os
import stat
import zipfile
from pathlib import Path

import pytest

from proxybox.packages import unpacking
from proxybox.packages.unpacking import NoWheel, UnpackedFolder
from tests.packages.wheels import wheel


@pytest.fixture
def folder(tmp_path: Path) -> UnpackedFolder:
    (tmp_path / "target").mkdir()
    return UnpackedFolder(str(tmp_path / "target"))


def rewritten(path: Path, *, compression: int = zipfile.ZIP_DEFLATED, leave_out: str = "none", again: str = "") -> Path:
    """The same archive with a change."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist() if not name.endswith(leave_out)}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        if again:
            archive.writestr(zipfile.ZipInfo(again), b"")
    return path


def test_files_and_folders(folder: UnpackedFolder, tmp_path: Path) -> None:
    files = {"good/__init__.py": "", "good/run": "x", "good/deep/er/data.bin": "x", "good-1.0.data/purelib/more.py": ""}
    path = wheel(tmp_path, "good", files=files, modes={"good/run": 0o100777})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("good/empty/", "")
    assert folder.unpack(path) == []
    found = {str(each.relative_to(folder.path)) for each in Path(folder.path).rglob("*")}
    info = {f"good-1.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD")}
    modules = {"good/__init__.py", "good/run", "good/deep/er/data.bin", "more.py"}
    assert found == {"good", "good/deep", "good/deep/er", "good-1.0.dist-info"} | info | modules
    for each in Path(folder.path).rglob("*"):
        mode = each.lstat().st_mode
        assert stat.S_ISDIR(mode) or stat.S_ISREG(mode)
        assert not mode & 0o7022
        assert bool(mode & 0o100) == (each.is_dir() or each.name == "run")


BROKEN = {
    "no archive": (lambda path: path.write_bytes(b"no archive"), "cannot be unpacked"),
    "nothing": (lambda path: path.write_bytes(b""), "cannot be unpacked"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "cannot be unpacked"),
    "changed": (lambda path: path.write_bytes(path.read_bytes().replace(b"SOMETHING", b"ANYTHING!")), "Bad CRC-32"),
    "no RECORD": (lambda path: rewritten(path, leave_out="RECORD"), "no item named"),
    "no metadata": (lambda path: rewritten(path, leave_out=("METADATA", "WHEEL", "RECORD")), "one .dist-info"),
    "a file twice": (lambda path: rewritten(path, again="good.py"), "'good.py': is there twice"),
    "a file that is a folder": (lambda path: rewritten(path, again="good.py/x"), "cannot be unpacked"),
    "bzip2": (lambda path: rewritten(path, compression=zipfile.ZIP_BZIP2), "want it compressed by deflate"),
    "LZMA": (lambda path: rewritten(path, compression=zipfile.ZIP_LZMA), "want it compressed by deflate"),
    "deep": (lambda path: rewritten(path, again="a/" * 50 + "x"), "want at most"),
    "long": (lambda path: rewritten(path, again="a" * 1001), "want at most"),
    "a name that the disk refuses": (lambda path: rewritten(path, again="a" * 300), "File name too long"),
    "a name of ours": (lambda path: rewritten(path, again="proxybox.json"), "'proxybox.json': is a name that"),
    "a name of ours, by data": (
        lambda path: rewritten(path, again="good-1.0.data/data/proxybox.json/x"),
        "is a name that packages do not have",
    ),
    "two names": (lambda path: rewritten(path, again="other-1.0.dist-info/RECORD"), "one .dist-info"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", BROKEN)
def test_an_archive_that_is_none(folder: UnpackedFolder, tmp_path: Path, name: str) -> None:
    path = wheel(tmp_path, "good", good="SOMETHING")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "content")
    if name == "changed":
        rewritten(path, compression=zipfile.ZIP_STORED)
    change, reason = BROKEN[name]
    change(path)
    with pytest.raises((NoWheel, OSError), match=reason):
        folder.unpack(path)


@pytest.mark.parametrize("bound", ["_MOST", "_MOST_FILES"])
def test_more_than_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """All wheels count together, before anything of the next one is written."""
    (tmp_path / "target").mkdir()
    size, files = (100_000, 100) if bound == "_MOST" else (1 << 30, 10)
    folder = UnpackedFolder(str(tmp_path / "target"), room=size, files=files)
    folder.unpack(wheel(tmp_path, "first", first="x" * 50_000))
    with pytest.raises(NoWheel, match="unpacks to more than"):
        folder.unpack(wheel(tmp_path, "second", second="x" * 50_000, **{f"more{n}": "" for n in range(5)}))
    assert not os.path.exists(f"{folder.path}/second.py")
    assert getattr(unpacking, bound) > 100_000


def test_what_a_header_does_not_say_is_not_read(folder: UnpackedFolder, tmp_path: Path) -> None:
    """A file whose header says less than there is ends with an error, not with a full disk."""
    path = wheel(tmp_path, "good", files={"large.txt": "x" * 100_000})
    data = bytearray(path.read_bytes())
    for at in (data.index((100_000).to_bytes(4, "little")), data.rindex((100_000).to_bytes(4, "little"))):
        data[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(NoWheel):
        folder.unpack(path)
    assert sum(each.stat().st_size for each in Path(folder.path).rglob("large.txt")) <= 10

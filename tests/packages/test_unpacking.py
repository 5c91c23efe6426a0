"""Unpacking of archives: limits, and archives that are broken or odd. Path attacks are in test_attacks.py."""

import os
import stat
import zipfile
from pathlib import Path

import pytest

from proxybox.packages import unpacking
from proxybox.packages.refusing import why_no_path
from proxybox.packages.unpacking import NoWheel, UnpackedFolder
from tests.packages.wheels import digest, wheel


@pytest.fixture
def folder(tmp_path: Path) -> UnpackedFolder:
    (tmp_path / "target").mkdir()
    return UnpackedFolder(str(tmp_path / "target"))


def rewritten(path: Path, *, compression: int = zipfile.ZIP_DEFLATED, leave_out: str = "none", again: str = "") -> Path:
    """Changes an archive, and returns its path."""
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
        assert stat.S_IMODE(mode) == (0o755 if each.is_dir() or each.name == "run" else 0o644)
    assert (Path(folder.path) / "good/deep/er/data.bin").read_text() == "x"


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
    """All wheels count together, before any file of the next one is written."""
    (tmp_path / "target").mkdir()
    size, files = (100_000, 100) if bound == "_MOST" else (1 << 30, 10)
    folder = UnpackedFolder(str(tmp_path / "target"), room=size, files=files)
    folder.unpack(wheel(tmp_path, "first", first="x" * 50_000))
    with pytest.raises(NoWheel, match="unpacks to more than"):
        folder.unpack(wheel(tmp_path, "second", second="x" * 50_000, **{f"more{n}": "" for n in range(5)}))
    assert not os.path.exists(f"{folder.path}/second.py")
    assert getattr(unpacking, bound) > 100_000


@pytest.mark.parametrize(("files", "size", "words"), [
    (4, 300, ""), (3, 300, "16 GiB or 500,000 files"), (4, 299, "unpacks to more than 16 GiB or 500,000 files in all"),
])  # fmt: skip
def test_as_much_as_fits(tmp_path: Path, files: int, size: int, words: str) -> None:
    path = wheel(tmp_path, "good", good="x")
    with zipfile.ZipFile(path) as archive:
        size += sum(each.file_size for each in archive.infolist()) - 300
    (tmp_path / "target").mkdir()
    folder = UnpackedFolder(str(tmp_path / "target"), room=size, files=files)
    if words:
        with pytest.raises(NoWheel, match=words):
            folder.unpack(path)
    else:
        assert folder.unpack(path) == []
        assert (folder.room, folder.files) == (0, 0)


def test_notes(folder: UnpackedFolder, tmp_path: Path) -> None:
    """A note for each difference from a RECORD or from another package; of many, only their number."""
    first = wheel(tmp_path, "first", files={"same.py": "1", "equal.py": "2", "__pycache__": "a file"})
    assert folder.unpack(first) == []
    record = f"wrong.py,{digest('other')},5\nlong.py,sha512={'A' * 86},1\ngone.py,,\n"
    second = wheel(
        tmp_path, "second", files={"same.py": "other", "equal.py": "2"}, listed=record,
        unlisted={"wrong.py": "1", "long.py": "1", "second/__pycache__/x.pyc": "1"},
    )  # fmt: skip
    assert folder.unpack(second) == [
        "same.py: another package has another file of this name, which stays", "wrong.py: is not what its RECORD says",
        "long.py: is not what its RECORD says", "and 1 more",
    ]  # fmt: skip
    target = Path(folder.path)
    assert [(target / name).read_text() for name in ("same.py", "equal.py", "wrong.py")] == ["1", "2", "1"]
    assert (target / "__pycache__").is_file()
    assert not (target / "second").exists()
    assert folder.digests["same.py"] == digest("1")
    assert folder.digests["long.py"].startswith("sha512=")
    third = wheel(tmp_path, "third", unlisted={"a.py": ""}, listed="gone.py,,\n")
    with zipfile.ZipFile(third, "a") as archive:
        archive.writestr("third/", "")
        with pytest.warns(UserWarning, match="Duplicate name"):  # a folder may be listed twice
            archive.writestr("third/", "")
    assert folder.unpack(third) == ["a.py: its RECORD has no hash of it", "gone.py: is in its RECORD alone"]


def test_what_stands_there_is_not_written_through(folder: UnpackedFolder, tmp_path: Path) -> None:
    (tmp_path / "mark").write_text("mine")
    os.symlink(tmp_path / "mark", f"{folder.path}/good.py")
    with pytest.raises(NoWheel, match="exists"):
        folder.unpack(wheel(tmp_path, "good", good="theirs"))
    assert (tmp_path / "mark").read_text() == "mine"


@pytest.mark.parametrize(("name", "words"), [
    ("a/" * 39 + "b", ""), ("a/" * 40 + "b", "want at most 1000 bytes, and 40 folders"), ("é" * 500, ""),
    ("é" * 500 + "e", "want at most"), ("a\\b", "want a plain path"), ("a\u200bb", "want a plain path"),
    ("a/../b", "want a plain path"), ("a//b", "want a plain path"), ("./a", "want a plain path"),
])  # fmt: skip
def test_names(name: str, words: str) -> None:
    assert why_no_path(name).startswith(words)
    assert bool(why_no_path(name)) is bool(words)


def test_what_a_header_does_not_say_is_not_read(folder: UnpackedFolder, tmp_path: Path) -> None:
    """If a header gives a smaller size than the data has, the result is an error, not a full disk."""
    path = wheel(tmp_path, "good", files={"large.txt": "x" * 100_000})
    data = bytearray(path.read_bytes())
    for at in (data.index((100_000).to_bytes(4, "little")), data.rindex((100_000).to_bytes(4, "little"))):
        data[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(NoWheel):
        folder.unpack(path)
    assert sum(each.stat().st_size for each in Path(folder.path).rglob("large.txt")) <= 10

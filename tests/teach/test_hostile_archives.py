"""Archives, folders and files that are expensive to read, although they are small.

Memory is counted by tracemalloc: the bytes of Python's own objects.
"""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from proxybox.teach.student import Failed
from proxybox.teach.submissions import MOST_ENTRIES, Submission, find_submissions, read_submission

_NAME = "Ada_1_assignsubmission_file"


def contents(entries: int, name: bytes = b"a", *, size: int = 0, start: int = 0) -> bytes:
    """Returns the central directory of an archive with equal entries. size, start: of each entry's data, before it."""
    fixed = struct.pack(
        "<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 8 * bool(size), 0, 0, 0, size, 0, len(name), 0, 0, 0, 0, 0, 0
    )
    table = (fixed + name) * entries
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, entries & 0xFFFF, entries & 0xFFFF, len(table), start, 0)
    return table + end


def packed(name: str, data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(name, data)
    return made.getvalue()


def overlapping(count: int) -> bytes:
    """Returns an archive whose members of 1 MiB share their data: empty blocks of deflate, which contain no bytes."""
    data = b"\0\0\0\xff\xff" * ((1 << 20) // 5) + b"\1\0\0\xff\xff"
    head = struct.pack("<4s2B4HL2L2H", b"PK\3\4", 20, 0, 0, 8, 0, 0, 0, len(data), 0, 1, 0) + b"a"
    return head + data + contents(count, size=len(data), start=len(head + data))


def peak(path: Path) -> tuple[list[Submission], int]:
    """Returns the submissions, and the most memory that finding them took."""
    tracemalloc.start()
    try:
        return find_submissions([path], "solution.py"), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "a million entries": lambda: contents(1_000_000),
    "a million entries that are ignored": lambda: contents(1_000_000, b".git/x"),
    "a million folders": lambda: contents(1_000_000, b"a/"),
    "long names": lambda: contents(300, b"a/" * 30_000),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_long_table_of_contents_is_not_taken_apart(tmp_path: Path, name: str) -> None:
    (tmp_path / "ada.zip").write_bytes(ARCHIVES[name]())
    (found,), most = peak(tmp_path / "ada.zip")
    assert "table of contents" in found.problem
    assert most < 4 << 20


def test_an_archive_of_2_kb_that_holds_a_table_of_20_mb(tmp_path: Path) -> None:
    """An archive in an archive in an archive: the bytes of the inner one are an archive, which is parsed."""
    inner = packed("hw.zip", contents(430_000))
    whole = packed(f"{_NAME}/hw.zip", inner)
    assert len(whole) < 2_200
    (tmp_path / "moodle.zip").write_bytes(whole)
    (found,), most = peak(tmp_path / "moodle.zip")
    assert list(found.files) == ["hw.zip"], "only one archive is opened in another"
    assert most < 48 << 20
    (tmp_path / "moodle.zip").write_bytes(packed(f"{_NAME}/hw.zip", contents(430_000)))
    (found,), most = peak(tmp_path / "moodle.zip")
    assert "table of contents" in found.problem
    assert most < 48 << 20, "twice what a submission may have, but for its parts"


def test_members_that_are_the_same_bytes_and_give_none(tmp_path: Path) -> None:
    """Packed bytes that are read count, too: they take the time."""
    (tmp_path / "few.zip").write_bytes(overlapping(1))
    (tmp_path / "many.zip").write_bytes(overlapping(100))
    assert read_submission(tmp_path / "few.zip").files == {"a": b""}
    (found,), most = peak(tmp_path / "many.zip")
    assert found.problem == "more than 20 MiB" or "Overlapped" in found.problem, "newer zipfiles look for that, too"
    assert most < 4 << 20


def test_a_forged_table_that_says_less_than_there_is(tmp_path: Path) -> None:
    """A size of packed data that is too small: no more data is unpacked."""
    whole = packed("solution.py", bytes(30 << 20))
    at = whole.index(b"PK\1\2") + 20
    (tmp_path / "ada.zip").write_bytes(whole[:at] + struct.pack("<L", 1) + whole[at + 4 :])
    (found,), most = peak(tmp_path / "ada.zip")
    assert found.problem
    assert most < 48 << 20


def test_a_folder_of_twenty_thousand_folders(tmp_path: Path) -> None:
    folder = tmp_path / _NAME
    for number in range(MOST_ENTRIES // 100 + 1):
        for inner in range(99):
            (folder / str(number) / str(inner)).mkdir(parents=True)
    (found,), _ = peak(folder)
    assert found.problem.startswith("more than 20,000 files and folders")


def test_imports_of_a_million_names(tmp_path: Path) -> None:
    """The imports of a folder's files are read before it is known whose submission it is."""
    words = ", ".join(f"a{number:x}" for number in range(1_000_000)).encode()
    for name in ("solution.py", "helper.py", "other.py"):
        (tmp_path / name).write_bytes(b"import " + words)
    tracemalloc.start()
    try:
        found = find_submissions([tmp_path], "solution.py")
        held = sum(len(data) for each in found for data in each.files.values())
        assert tracemalloc.get_traced_memory()[1] < 2 * held
    finally:
        tracemalloc.stop()
    assert len(found) == 3


def test_a_message_names_no_file_at_length() -> None:
    files = {f"{number}{'x' * 60_000}.txt": b"" for number in range(5)}
    with pytest.raises(Failed) as caught:
        Submission(student="ada", files=files).main("solution.py")
    assert len(str(caught.value)) < 2_000

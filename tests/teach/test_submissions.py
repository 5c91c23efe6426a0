"""Sources of submissions, and files that are none."""

import datetime
import io
import os
import re
import zipfile
from pathlib import Path

import pytest

from proxybox.teach import downloads
from proxybox.teach.grades import PassedOver
from proxybox.teach.student import Failed
from proxybox.teach.submissions import (
    MOST_BYTES,
    MOST_FILES,
    Submission,
    SubmissionError,
    find_submissions,
    read_submission,
)


def files(folder: Path, **content: str) -> Path:
    for name, text in content.items():
        path = folder / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def archive(path: Path, **content: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in content.items():
            made.writestr(name.replace("__", "/").replace("_py", ".py"), text)
    return path


def told(*paths: Path) -> dict[str, list[str]]:
    return {each.student: sorted(each.files) for each in find_submissions(paths, "solution.py")}


def test_files_folders_and_archives(tmp_path: Path) -> None:
    files(tmp_path, ada_py="x = 1", grace__solution_py="y", grace__data="1", notes="no submission")
    (tmp_path / ".hidden.py").touch()
    (tmp_path / "__init__.py").touch()
    archive(tmp_path / "alan.zip", solution_py="z", __pycache__="")
    assert told(tmp_path) == {"ada": ["ada.py"], "alan": ["solution.py"], "grace": ["data", "solution.py"]}
    assert told(tmp_path / "ada.py") == {"ada": ["ada.py"]}
    assert told(tmp_path / "grace") == {"grace": ["data", "solution.py"]}


def test_moodle(tmp_path: Path) -> None:
    name = "Ada Lovelace_4711_assignsubmission_file_"
    (tmp_path / name).mkdir()
    (tmp_path / name / "solution.py").write_text("x")
    assert told(tmp_path) == {"Ada Lovelace": ["solution.py"]}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as made:
        made.writestr(f"{name}/solution.py", "x")
        made.writestr("Alan Turing_12_assignsubmission_file_/a/solution.py", "y")
    assert told(tmp_path / "all.zip") == {"Ada Lovelace": ["solution.py"], "Alan Turing": ["a/solution.py"]}


def test_gradescope(tmp_path: Path) -> None:
    files(tmp_path, submission_1__solution_py="x", submission_2__solution_py="y")
    (tmp_path / "submission_metadata.yml").write_text(
        'submission_1:\n  :submitters:\n  - :name: Ada Lovelace\n    :sid: "1"\n  :created_at: 2026-01-01\n'
        "submission_2:\n  :submitters:\n  - :name: Alan Turing\n"
    )
    assert told(tmp_path) == {"Ada Lovelace": ["solution.py"], "Alan Turing": ["solution.py"]}


def test_gradescope_says_when_a_submission_was_handed_in(tmp_path: Path) -> None:
    """The time in the metadata counts, and not the times of unpacked files."""
    files(tmp_path, **{f"submission_{number}__solution_py": "" for number in range(1, 6)})
    times = {1: "2026-10-02 23:30:00.586427000 Z", 2: '"2026-10-02T23:30:00+02:00"', 3: "2026-10-02 23:30:00 -07:00",
             4: "2026-10-32 23:30:00 Z"}  # fmt: skip
    (tmp_path / "submission_metadata.yml").write_text(
        "".join(f"submission_{number}:\n  :created_at: {time}\n  :score: 0\n" for number, time in times.items())
    )
    for path in tmp_path.glob("*/*"):
        os.utime(path, (at(9).timestamp(),) * 2)
    hour = datetime.timedelta(hours=1)
    first = datetime.datetime(2026, 10, 2, 23, 30, tzinfo=datetime.UTC)
    assert submitted(tmp_path) == {
        "submission_1": first, "submission_2": first - 2 * hour, "submission_3": first + 7 * hour,
        "submission_4": at(9), "submission_5": at(9),
    }  # fmt: skip


def export(folder: Path, metadata: str) -> tuple[list[str], list[str]]:
    """Returns the students in a Gradescope export of one folder, and the reasons of ignored files."""
    files(folder, submission_1__solution_py="x")
    (folder / "submission_metadata.yml").write_text(metadata, "utf-8", newline="")
    passed_over: list[PassedOver] = []
    found = find_submissions([folder], "solution.py", passed_over.append)
    return [each.student for each in found], [each.why for each in passed_over]


@pytest.mark.parametrize(
    ("metadata", "student"),
    [
        ('submission_1: {":submitters": [{":name": "Ada: \\u201cthe first\\u201d"}]}', "Ada: \u201cthe first\u201d"),
        ("submission_1:\n  :submitters:\n  - &1\n    :name: 'O''Brien'\n  - *1\n", "O'Brien"),
        ("submission_1:\n  :results:\n    output: |\n      submission_1:\n      - :name: Eve\n"
         "  :submitters:\n  - :name: !ruby/string Ada\n", "Ada"),
        ("submission_1:\n  :submitters:\n  - :name: 2026-01-01\n", "2026-01-01"),
        ("submission_1:\n  :submitters: []\n", "submission_1"),
        ("submission_1: 3\n", "submission_1"),
        ("- submission_1\n", "submission_1"),
        ("", "submission_1"),
    ],
    ids=("escapes", "aliases", "output that looks like it", "a date", "nobody", "a number", "a list", "empty"),
)  # fmt: skip
def test_what_yaml_may_hold(tmp_path: Path, metadata: str, student: str) -> None:
    assert export(tmp_path, metadata) == ([student], [])


@pytest.mark.parametrize(
    "metadata",
    ["submission_1: a: b\n", "[" * 100_000, "- " * 100_000, "&a [*a]", "submission_1:\n  :name: \x1b[2J\n", "{[]: 1}"],
    ids=("damaged", "deep in brackets", "deep in lists", "in itself", "controls", "a list as a key"),
)
def test_what_is_no_yaml_is_told(tmp_path: Path, metadata: str) -> None:
    students, (why,) = export(tmp_path, metadata)
    assert students == ["submission_1"]
    assert why.startswith("names and times in it are not known: no YAML: ")
    assert why.isprintable()


def test_yaml_makes_nothing_but_texts(tmp_path: Path) -> None:
    made = "{a: !!python/object/apply:os.mkdir [made], ':submitters': [{':name': !!python/name:os.system x}]}"
    assert export(tmp_path, f"submission_1: {made}") == (["x"], [])
    assert not os.path.lexists("made")


def test_metadata_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_MOST_METADATA", 100)
    assert export(tmp_path, "# " + "x" * 200) == (
        ["submission_1"], ["names and times in it are not known: more than 0 MiB"],
    )  # fmt: skip


# --- names ------------------------------------------------------------------------------------------------------------


def test_two_of_one_name_are_told_apart(tmp_path: Path) -> None:
    files(tmp_path, a__bob_py="1", b__bob_py="2", c__bob_py="3")
    (tmp_path / "c/bob.py").rename(tmp_path / "c/bob (2).py")
    paths = [tmp_path / "b/bob.py", tmp_path / "c/bob (2).py", tmp_path / "a/bob.py"]
    for order in (paths, paths[::-1]):
        found = {each.student: each.files for each in find_submissions(order, "solution.py")}
        assert found == {"bob": {"bob.py": b"1"}, "bob (2)": {"bob (2).py": b"3"}, "bob (3)": {"bob.py": b"2"}}


def moodle(path: Path, **content: str) -> Path:
    """Makes an archive or a folder as Moodle does. content: NAME__ID__KIND__REST, with _py for .py."""
    names = {re.sub("__", "_assignsubmission_", re.sub("__", "_", name, count=1), count=1): text
             for name, text in content.items()}  # fmt: skip
    return (archive if path.suffix else files)(path, **names)


@pytest.mark.parametrize("path", ["all.zip", "all"])
def test_two_people_of_one_name_in_moodle(tmp_path: Path, path: str) -> None:
    path_ = moodle(
        tmp_path / path, Anna__12__file__solution_py="b", Anna__9__file__solution_py="a", Bob__1__file__x_py="c"
    )
    found = {each.student: each.main("solution.py") for each in find_submissions([path_], "solution.py")}
    assert found == {"Anna": b"a", "Anna (12)": b"b", "Bob": b"c"}


@pytest.mark.parametrize("path", ["all.zip", "all"])
def test_text_and_files_of_one_person_in_moodle(tmp_path: Path, path: str) -> None:
    path_ = moodle(tmp_path / path, A__1__onlinetext__solution_py="text", A__1__onlinetext__more_py="m",
                   A__1__file__solution_py="file")  # fmt: skip
    (found,) = find_submissions([path_], "solution.py")
    assert (found.student, found.files) == ("A", {"solution.py": b"file", "more.py": b"m"})


def test_two_downloads_of_moodle_are_not_mixed(tmp_path: Path) -> None:
    for name in "ab":
        moodle(tmp_path / name, **{f"A__1__file__{name}_py": ""})
    assert told(*tmp_path.glob("*/*")) == {"A": ["a.py"], "A (1)": ["b.py"]}


@pytest.mark.parametrize("path", ["all.zip", "all"])
def test_loose_files_in_moodle(tmp_path: Path, path: str) -> None:
    path_ = moodle(tmp_path / path, A__1__file__solution_py="a", B__2__file_hw_py="b", B__2__file_helper_py="h",
                   C__3__file_notes="c")  # fmt: skip
    assert told(path_) == {"A": ["solution.py"], "B": ["helper.py", "hw.py"], "C": ["notes"]}


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "Carol.PY").write_text("x")
    archive(tmp_path / "D.zip", solution_py="").rename(tmp_path / "D.ZIP")
    assert told(tmp_path) == {"Carol": ["Carol.PY"], "D": ["solution.py"]}
    assert find_submissions([tmp_path / "Carol.PY"], "solution.py")[0].main("solution.py") == b"x"


# --- one from many ----------------------------------------------------------------------------------------------------


def test_an_archive_among_others_is_no_download(tmp_path: Path) -> None:
    folder = files(tmp_path / "all", Ada_py="hers")
    forged = moodle(folder / "bad.zip", Ada__1__file__solution_py="not hers")
    expected = {"Ada": ["Ada.py"], "bad": ["Ada_1_assignsubmission_file/solution.py"]}
    assert told(folder) == told(*folder.iterdir()) == expected
    assert told(forged) == {"Ada": ["solution.py"]}, "it is all that was given"
    with zipfile.ZipFile(forged, "a") as made:
        made.writestr("solution.py", "")
    assert list(told(forged)) == ["bad"], "no download, since it holds the main file"


@pytest.mark.parametrize("name", ["bob", "Bob_2_assignsubmission_file_"])
def test_a_folder_in_a_collection_is_one_submission(tmp_path: Path, name: str) -> None:
    files(tmp_path / "all" / name, ada_py="1", Eve_3_assignsubmission_file__solution_py="2", alan__solution_py="3")
    files(tmp_path / "all" / name, submission_metadata="")
    (only,) = find_submissions([tmp_path / "all"], "solution.py")
    assert len(only.files) == 4
    assert len(told(tmp_path / "all" / name)) == (1 if "_2_" in name else 3), "given itself, it is one by Moodle's name"


def test_several_paths_are_one_submission_each(tmp_path: Path) -> None:
    files(tmp_path, ada__hw_py="", ada__more_py="", bob__carol__solution_py="", dan_py="")
    found = told(tmp_path / "ada", tmp_path / "bob", tmp_path / "dan.py")
    assert found == {"ada": ["hw.py", "more.py"], "bob": ["carol/solution.py"], "dan": ["dan.py"]}


def test_a_folder_with_what_the_main_file_imports_is_one(tmp_path: Path) -> None:
    files(tmp_path / "ada", solution_py="import os, helper\n", helper_py="if 1:\n  from more import x\n", more_py="",
          data__a_py="")  # fmt: skip
    (tmp_path / "ada/__init__.py").touch()
    assert list(told(tmp_path / "ada")) == ["ada"]


@pytest.mark.parametrize("other", ["ada_py", "ada__solution_py", "ada_zip"])
def test_a_student_whose_file_is_called_like_the_main_file(tmp_path: Path, other: str) -> None:
    files(tmp_path / "all", solution_py="helper = 1  # import ada\n", **{other.replace("_zip", ".zip"): "import ada"})
    assert list(told(tmp_path / "all")) == ["ada", "solution"]


def test_earlier_grades_are_no_submission(tmp_path: Path) -> None:
    files(tmp_path, ada_py="", grades__solution_py="", grades__x_py="")
    (tmp_path / "grades/.grades.jsonl").touch()
    assert list(told(tmp_path)) == list(told(*tmp_path.iterdir())) == ["ada"]
    assert told(tmp_path / "grades") == {}


@pytest.mark.parametrize("name", ["ada", "Ada_1_assignsubmission_file_"])
def test_an_archive_that_is_all_of_a_folder_is_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "all" / name).mkdir(parents=True)
    inner = archive(tmp_path / "inner.zip", x_py="")
    with zipfile.ZipFile(tmp_path / "all" / name / "hw.zip", "w") as made:
        made.writestr("hw/solution.py", "x")
    with zipfile.ZipFile(tmp_path / "moodle.zip", "w") as made:
        made.write(tmp_path / "all" / name / "hw.zip", "Ada_1_assignsubmission_file/hw.zip")
        made.write(inner, "Bob_2_assignsubmission_file_hw.ZIP")
    assert list(told(tmp_path / "all").values()) == [["hw/solution.py"]]
    assert told(tmp_path / "moodle.zip") == {"Ada": ["hw/solution.py"], "Bob": ["x.py"]}
    assert list(read_submission(tmp_path / "all" / name).files) == ["hw.zip"], "files of an exercise stay what they are"


# --- when -------------------------------------------------------------------------------------------------------------


def at(day: int) -> datetime.datetime:
    return datetime.datetime(2026, 10, day, 12, tzinfo=datetime.UTC)


def put(made: zipfile.ZipFile, name: str, day: int, data: bytes = b"x") -> None:
    made.writestr(zipfile.ZipInfo(name, (2026, 10, day, 12, 0, 0) if day else (1980, 1, 1, 0, 0, 0)), data)


def submitted(path: Path) -> dict[str, datetime.datetime | None]:
    return {each.student: each.submitted for each in find_submissions([path], "solution.py")}


def test_a_folder_is_as_late_as_its_newest_file(tmp_path: Path) -> None:
    files(tmp_path / "all", ada__solution_py="", ada__b__c_py="", ada_py="")
    for name, day in {"ada/solution.py": 2, "ada/b/c.py": 3, "ada/b": 8, "ada": 9}.items():
        os.utime(tmp_path / "all" / name, (at(day).timestamp(),) * 2)
    assert submitted(tmp_path / "all")["ada"] == at(3)


def test_an_archive_is_as_late_as_itself_whatever_dates_are_in_it(tmp_path: Path) -> None:
    """The author of an archive chooses the dates of its members; in Moodle's archive, Moodle does."""
    with zipfile.ZipFile(tmp_path / "ada.zip", "w") as made:
        put(made, "a.py", 4)
        put(made, "solution.py", 3)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as made:
        put(made, "solution.py", 0)
    (tmp_path / "bad.zip").write_text("none")
    for name in ("ada.zip", "none.zip", "bad.zip"):
        os.utime(tmp_path / name, (at(7).timestamp(),) * 2)
    assert submitted(tmp_path) == {"ada": at(7), "none": at(7), "bad": at(7)}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as made:
        put(made, "Ada_1_assignsubmission_file/hw.zip", 9, (tmp_path / "ada.zip").read_bytes())
        put(made, "Bob_2_assignsubmission_file/a.py", 5)
    assert submitted(tmp_path / "all.zip") == {"Ada": at(9), "Bob": at(5)}, "Moodle's time, not the student's"


# --- what cannot be read ----------------------------------------------------------------------------------------------


def bad_archive(path: Path, method: int = zipfile.ZIP_DEFLATED, **changes: bytes) -> None:
    """Makes an archive with changed bytes. changes: from _ and hexadecimal digits to the new bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as made:
        made.writestr("solution\xe4.py", bytes(range(256)) * 99)
    whole = data.getvalue()
    for old, new in changes.items():
        whole = whole.replace(bytes.fromhex(old[1:]), new)
    path.write_bytes(whole)


def test_one_that_cannot_be_read_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, ada_py="", unreadable_py="")
    (tmp_path / "large.py").write_bytes(b" " * (MOST_BYTES + 1))
    files(tmp_path / "many", **{f"f{number}": "" for number in range(MOST_FILES + 1)})
    (tmp_path / "text.zip").write_text("no archive")
    (tmp_path / "short.zip").write_bytes(archive(tmp_path / "out.zip", solution_py="").read_bytes()[:-30])
    archive(tmp_path / "out.zip", **{"../x": ""})
    bad_archive(tmp_path / "name.zip", _c3a4=b"\xff\xff")
    bad_archive(tmp_path / "method.zip", _504b01021403140000080800=b"PK\1\2\x14\3\x14\0\0\x08\x63\0")
    for name, method in {
        "zlib.zip": zipfile.ZIP_DEFLATED,
        "lzma.zip": zipfile.ZIP_LZMA,
        "bz2.zip": zipfile.ZIP_BZIP2,
    }.items():
        bad_archive(tmp_path / name, method)
        data = bytearray((tmp_path / name).read_bytes())
        data[45:70] = b"\xff" * 25
        (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(
        "io.FileIO", lambda path: path.open("rb") if path.stem != "unreadable" else (path / "no").open()
    )
    found = {each.student: each for each in find_submissions([tmp_path], "solution.py")}
    assert {name for name, each in found.items() if not each.problem} == {"ada"}
    assert sorted(found) == ["ada", "bz2", "large", "lzma", "many", "method", "name", "out", "short", "text",
                             "unreadable", "zlib"]  # fmt: skip
    assert not any(each.files for name, each in found.items() if name != "ada")
    assert [found[name].problem for name in ("large", "many", "out", "text", "unreadable")] == [
        "more than 20 MiB", "more than 500 files", "'../x' leads out of it", "File is not a zip file", "Not a directory"
    ]  # fmt: skip
    with pytest.raises(Failed, match=r"The submission cannot be read: more than 20 MiB\.") as failed:
        found["large"].main("solution.py")
    assert failed.value.status == "error"


def test_one_of_a_moodle_download_that_cannot_be_read(tmp_path: Path) -> None:
    path = moodle(tmp_path / "all.zip", A__1__file__solution_py="a", B__2__file__hw="")
    with zipfile.ZipFile(path, "a") as made:
        made.writestr("C_3_assignsubmission_file/hw.zip", "no archive")
        made.writestr("D_4_assignsubmission_file/../../x.py", "")
        made.writestr("/etc/x.py", "")
        made.writestr("../x.py", "")
    found = {each.student: each.problem for each in find_submissions([path], "solution.py")}
    assert found == {"A": "", "B": "", "C": "File is not a zip file",
                     "D": "'../../x.py' leads out of it"}  # fmt: skip


@pytest.mark.parametrize(("claimed", "problem"), [(MOST_BYTES // 2, "more than 20 MiB"), (7, "Bad CRC")])
def test_what_an_archive_claims_is_not_believed(tmp_path: Path, claimed: int, problem: str) -> None:
    path, size = tmp_path / "a.zip", MOST_BYTES // 2
    archive(path, **{f"{number}_py": "\0" * size for number in range(3)})
    path.write_bytes(path.read_bytes().replace(size.to_bytes(4, "little"), claimed.to_bytes(4, "little")))
    (found,) = find_submissions([path], "solution.py")
    assert problem in found.problem


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_cannot_be_unpacked_piece_by_piece_is_not(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as made:
        made.writestr("solution.py", b"x")
    assert "deflate" in find_submissions([tmp_path / "a.zip"], "solution.py")[0].problem


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil.py", "a/../../evil.py"])
def test_archives_that_lead_out(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(name, "x")
    with pytest.raises(SubmissionError, match="leads out"):
        read_submission(tmp_path / "a.zip")


def test_archives_that_are_bombs_or_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("solution.py", b"\0" * (30 << 20))
    with pytest.raises(SubmissionError, match="MiB"):
        read_submission(tmp_path / "bomb.zip")
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as made:
        for number in range(MOST_FILES + 1):
            made.writestr(f"{number}.py", "")
    with pytest.raises(SubmissionError, match="files"):
        read_submission(tmp_path / "many.zip")
    (tmp_path / "none.zip").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(SubmissionError, match="zip"):
        read_submission(tmp_path / "none.zip")


def test_links_are_not_followed(tmp_path: Path) -> None:
    files(tmp_path / "ada", solution_py="x")
    os.symlink("/etc/passwd", tmp_path / "ada" / "passwd")
    os.symlink("/etc", tmp_path / "ada" / "etc")
    os.symlink("/etc", tmp_path / "grace")
    assert told(tmp_path) == {"ada": ["solution.py"]}


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="No such file"):
        read_submission(tmp_path / "nothing.py")
    files(tmp_path, ada_py="")
    with pytest.raises(SubmissionError, match=r"nothing\.py: No such file"):
        find_submissions([tmp_path / "ada.py", tmp_path / "nothing.py"], "solution.py")


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ({"solution.py": b"1", "other.py": b"2"}, b"1"),
        ({"a/solution.py": b"3", "x.py": b""}, b"3"),
        ({"x.py": b"4"}, b"4"),
    ],
)
def test_the_main_file(held: dict[str, bytes], found: bytes) -> None:
    assert Submission(student="ada", files=held).main("solution.py") == found


@pytest.mark.parametrize("held", [{}, {"x.py": b"", "y.py": b""}, {"notes.txt": b""}])
def test_no_main_file(held: dict[str, bytes]) -> None:
    with pytest.raises(Failed, match=r"There is no file solution\.py"):
        Submission(student="ada", files=held).main("solution.py")


def test_what_lies_beside_the_main_file() -> None:
    held = {"hw/solution.py": b"1", "hw/helper.py": b"2", "hw/d/x": b"3", "helper.py": b"4", "data/y": b"5"}
    expected = {"solution.py": b"1", "helper.py": b"2", "d/x": b"3", "data/y": b"5"}
    assert Submission(student="ada", files=held).beside("solution.py") == expected
    assert Submission(student="ada", files={"hw.py": b"1"}).beside("solution.py")["solution.py"] == b"1"
    with pytest.raises(Failed, match="cannot be read: it is torn"):
        Submission(student="ada", problem="it is torn").beside("solution.py")


def test_links_in_an_archive_are_passed_over(tmp_path: Path) -> None:
    """Like links beside it: the content of a packed link is its target, and no program."""
    with zipfile.ZipFile(tmp_path / "ada.zip", "w") as made:
        made.writestr("solution.py", "x = 1\n")
        for number in range(22):
            link = zipfile.ZipInfo(f"link{number}.py")
            link.external_attr = 0o120777 << 16
            made.writestr(link, "/etc/passwd")
    passed: list[tuple[str, str]] = []
    (only,) = find_submissions([tmp_path], "solution.py", lambda each: passed.append((each.path, each.why)))
    assert only.files == {"solution.py": b"x = 1\n"}
    assert passed[:20] == [(f"{tmp_path}/ada.zip:link{number}.py", "links are not followed") for number in range(20)]
    assert passed[20:] == [(f"{tmp_path}/ada.zip", "2 more of what lies in it are links")]

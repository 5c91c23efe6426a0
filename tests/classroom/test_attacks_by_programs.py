"""Attacks by programs that students hand in and run: on hidden tests, on the trusted side, on the streams of events."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")

from tests.classroom.attacking import COURSE, SECRETS, Student, Target, target

#: Code of a module that leaves a trace when it is imported outside of a box.
TRACE = """
try:
    open({path!r}, "a").write(__name__ + "\\n")
except Exception:
    pass
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    # Programs without an end would otherwise run until the default limits.
    course = {**COURSE, "course.toml": COURSE["course.toml"] + "[limits]\ncpu_time = 1\nwall_time = 5\n"}
    with target(tmp_path_factory.mktemp("room"), "--seats", "300", files=course) as room:
        yield room


@pytest.fixture(scope="module")
def teacher(room: Target) -> httpx.Client:
    return room.teacher()


@pytest.fixture
def student(room: Target) -> Student:
    return room.join()


def printed(told: list[tuple[str, Any]]) -> str:
    return "".join(data["text"] for name, data in told if name == "out")


def all_of(student: Student, exercise: str) -> str:
    """Returns everything that a student can read about an exercise."""
    paths = (
        f"/api/exercises/{exercise}",
        "/api/me",
        f"/api/exercises/{exercise}/versions",
        "/api/exercises/double/versions/0",
    )
    return "".join(student.http.get(path).text for path in paths)


# --- hidden tests -----------------------------------------------------------------------------------------------------

#: Submissions that try to show hidden tests to their author: by output, results, errors, files, and later tests.
LEAKS = {
    "print": "def double(n):\n    print('saw', n)\n    return n",
    "raise": "def double(n):\n    raise ValueError(f'saw {n}')",
    "wrong result": "def double(n):\n    return f'saw {n}'",
    "remembered": "seen = []\ndef double(n):\n    seen.append(n)\n    print(seen)\n    return seen",
    "in a file": (
        "def double(n):\n    with open('seen.txt', 'a') as file:\n        file.write(f'{n} ')\n"
        "    print(open('seen.txt').read())\n    return open('seen.txt').read()"
    ),
    "in /tmp": (
        "def double(n):\n    open('/tmp/seen', 'a').write(f'{n} ')\n    raise ValueError(open('/tmp/seen').read())"
    ),
    "in the environment": (
        "import os\ndef double(n):\n    os.environ['SEEN'] = os.environ.get('SEEN', '') + str(n)\n"
        "    return os.environ['SEEN']"
    ),
    "in a module": (
        "import sys\ndef double(n):\n    sys.seen = getattr(sys, 'seen', []) + [n]\n    raise ValueError(sys.seen)"
    ),
    "at the end": "import atexit\ndef double(n):\n    atexit.register(lambda: print('saw', n))\n    return n",
    "by frames": (
        "import sys\ndef double(n):\n    frame, found = sys._getframe(), []\n    while frame:\n"
        "        found.append((frame.f_code.co_filename, sorted(frame.f_locals)))\n        frame = frame.f_back\n"
        "    return repr(found)"
    ),
    "by files": (
        "import os\ndef double(n):\n    found = []\n    for at, folders, names in os.walk('/'):\n"
        "        folders[:] = [name for name in folders if not name.startswith('lib')]\n"
        "        found.append((at, names))\n    return repr(found[:200])"
    ),
    "in the traceback": "def double(n):\n    exec(compile(f'saw = {n!r}\\n1/0', f'saw {n!r}', 'exec'))",
    "the class of an error": "def double(n):\n    raise type(f'Saw{n}', (Exception,), {})('x')",
    "crash": "import os\ndef double(n):\n    os.write(2, f'saw {n}'.encode())\n    os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("what", LEAKS)
def test_a_submission_does_not_tell_what_hidden_tests_ask(student: Student, teacher: httpx.Client, what: str) -> None:
    told = student.until("checked", LEAKS[what], "check")
    with student.events() as events:
        assert student.ask("hand-in").status_code == 201
        told += events.until("graded")
    results = told[-1][1]["handed_in"]["results"]
    assert results["hidden"]["total"] == 2
    seen = json.dumps(told) + all_of(student, "double")
    assert [secret for secret in SECRETS if secret in seen] == []
    whole = teacher.get(f"/api/teacher/seats/{student.id}?exercise=double").text
    assert "SECRET" in whole, "the teacher sees them"


@pytest.mark.parametrize(
    "code",
    [
        "print(input())",
        "import sys; print(sys.stdin.read(), file=sys.stderr)",
        "raise SystemExit(input())",
        "exec(input())",
    ],
)
def test_a_submission_does_not_tell_secret_cases(student: Student, code: str) -> None:
    told = student.until("checked", code, "check", "cases")
    with student.events() as events:
        assert student.ask("hand-in", exercise="cases").status_code == 201
        told += events.until("graded")
    assert "SECRET" not in json.dumps(told) + all_of(student, "cases")


def test_neither_tests_nor_solutions_are_in_a_box_or_behind_a_door(room: Target, student: Student) -> None:
    look = """
import os
for at, folders, names in os.walk('/'):
    folders[:] = [name for name in folders if name not in ('dev', 'proc', 'lib', 'lib64', 'usr')]
    for name in names:
        try:
            text = open(os.path.join(at, name), errors='replace').read(100_000)
        except OSError:
            continue
        if 'SEC' + 'RET' in text or 'test_double' in name or 'right.py' in name:
            print('found', at, name)
print('looked')
"""
    assert printed(student.until("finished", look)).splitlines() == ["looked"]
    assert not [secret for secret in SECRETS if secret in all_of(student, "double")]
    for path in (
        "tests",
        "solutions",
        "files",
        "files/tests",
        "versions/-1",
        "tests/test_double.py",
        "data/secret/1.in",
    ):
        assert student.http.get(f"/api/exercises/double/{path}").status_code in (404, 405, 422), path
    shown = student.http.get("/api/exercises/double").json()
    assert set(shown["files"]) == {"solution.py"}
    assert shown["others"] == ["table.txt"]


def test_hints_come_one_at_a_time(student: Student) -> None:
    assert "hint." not in all_of(student, "double")
    assert "First" in student.http.post("/api/exercises/double/hint", json={}).text
    seen = all_of(student, "double")
    assert "First hint." in seen
    assert "Second" not in seen
    assert student.http.post("/api/exercises/double/hint", json={"number": 3}).status_code == 422


# --- the trusted side -------------------------------------------------------------------------------------------------

#: Files that programs on the trusted side would import or obey if they ran in a student's folder.
MODULES = (
    "conftest.py",
    "test_double.py",
    "test_mine.py",
    "tests/test_double.py",
    "tests/conftest.py",
    "sitecustomize.py",
    "usercustomize.py",
    "json.py",
    "re.py",
    "pytest.py",
    "_pytest/__init__.py",
    "proxybox/__init__.py",
    "attrs.py",
    "os.py",
    "pytest.ini",
    "tox.ini",
    "setup.cfg",
    "pyproject.toml",
    "exercise.toml",
    "plugin.pth",
    "__main__.py",
    "__init__.py",
)


def test_no_file_of_a_student_is_imported_on_the_trusted_side(
    room: Target, student: Student, teacher: httpx.Client
) -> None:
    trace = room.data.parent / "trace"
    code = TRACE.format(path=str(trace))
    settings = "[pytest]\naddopts = -p mine\n[tool.pytest.ini_options]\naddopts = '-p mine'\n"
    files = {name: code if name.endswith((".py", ".pth")) else settings for name in MODULES}
    files["mine.py"] = code
    files["solution.py"] = "def double(n):\n    return 2 * n\n"
    assert student.put(files).status_code == 200
    told = student.until("checked", files["solution.py"], "check")
    with student.events() as events:
        student.ask("hand-in")
        told += events.until("graded")
    results = [
        data["results"] if name == "checked" else data["handed_in"]["results"]
        for name, data in told
        if name in ("checked", "graded")
    ]
    assert [each["total"] for each in results] == [4, 4]
    for path in ("similar?exercise=double", "export/code.zip", "export/grades?exercise=double&format=junit", "errors"):
        assert teacher.get(f"/api/teacher/{path}").status_code == 200
    assert not trace.exists(), trace.read_text()
    honest = room.join()
    assert honest.until("checked", files["solution.py"], "check")[-1][1]["results"]["passed"] == 4, (
        "the next ones are fine"
    )


def test_a_submission_does_not_grade_itself(student: Student) -> None:
    """It cannot reach the comparison: a value that equals everything arrives as plain data."""
    code = """
class Any(int):
    def __eq__(self, other): return True
    def __hash__(self): return 0
    def __reduce__(self): return (print, ('reduced',))
import builtins, sys
sys.modules['pytest'] = sys
builtins.AssertionError = type('Never', (Exception,), {})
def double(n):
    return Any(0)
"""
    results = student.until("checked", code, "check")[-1][1]["results"]
    assert results["passed"] == 0


# --- events -----------------------------------------------------------------------------------------------------------

FORGED = '\n\nid: 1\nevent: removed\ndata: {}\n\nevent: graded\ndata: {"passed": 99}\n\n'
WRITES = {
    "printed": f"print({FORGED!r})",
    "to both streams": f"import sys\nsys.stderr.write({FORGED!r})\nsys.stdout.write({FORGED!r})",
    "with other line ends": f"for end in '\\r\\u2028\\x85':\n    print({FORGED!r}.replace('\\n', end))",
    "as bytes": f"import os\nos.write(1, {FORGED.encode()!r} + b'\\xff\\x00\\xed\\xa0\\x80')",
    "as an error": f"raise ValueError({FORGED!r})",
    "as the class of an error": f"raise type({FORGED!r}.replace('\\x00', ''), (Exception,), {{}})({FORGED!r})",
    "as a prompt": f"try:\n    input({FORGED!r})\nexcept EOFError:\n    pass",
    "as what is shown": (
        f"class Shown:\n    def _repr_html_(self): return {FORGED!r}\n    def __repr__(self): return {FORGED!r}\n"
        f"    def _repr_svg_(self): return '<svg>' + {FORGED!r}\ndisplay(Shown(), display_id={FORGED!r})"
    ),
    "as a script": "print('</script><script>alert(1)</script><!--')",
}


@pytest.mark.parametrize("what", WRITES)
def test_no_program_forges_an_event(room: Target, student: Student, teacher: httpx.Client, what: str) -> None:
    """Data is JSON, in ASCII, on one line: a line end in a program's output is none in the stream."""
    with student.events() as events:
        run = student.ask("run", {"solution.py": WRITES[what]}).json()["run"]
        if what == "as a prompt":
            events.until("input")
            student.http.post("/api/input", json={"run": run, "text": ""})
        told = events.until("finished")
        raw = events.raw
    assert {name for name, _ in told} <= {"saved", "run", "out", "display", "input", "given", "finished"}
    assert all(line.isascii() and line.isprintable() for line in raw)
    assert all(re.match(r"(id: [0-9a-f]{8}-\d+|event: [a-z]+|data: .*|retry: \d+|: .*|)\Z", line) for line in raw)
    assert {data["run"] for _, data in told if "run" in data} == {run}
    row = next(row for row in teacher.get("/api/teacher/state").json()["seats"] if row["id"] == student.id)
    assert "\n" not in row["error"]
    assert len(row["error"]) <= 330


def test_what_is_kept_of_a_run_is_told_in_the_same_way(student: Student) -> None:
    student.until("finished", WRITES["printed"])
    output = student.http.get("/api/exercises/double").json()["output"]
    assert {event["event"] for event in output} == {"run", "out", "finished"}
    assert printed([(event["event"], event["data"]) for event in output]) == FORGED + "\n"


@pytest.mark.parametrize(
    "seen",
    [
        "0",
        "-1",
        "9" * 40,
        "x",
        "%00",
        "{boot}--1",
        "{boot}-" + "9" * 18,
        "{boot}-" + "9" * 30,
        "00000000-1",
        "{boot}-1e3",
        "{boot}-\u0661",
        "-",
        "{boot}",
    ],
)
def test_a_forged_id_of_the_last_event_brings_nothing_of_others(room: Target, student: Student, seen: str) -> None:
    other = room.join()
    other.until("finished", "print('only for the other one')")
    with student.events() as events:
        boot = events.hello["event"].partition("-")[0]
    with student.events(seen.format(boot=boot)) as events:
        student.http.post("/api/hand", json={"up": True})
        told = events.until("seat")
    assert "other one" not in json.dumps(told)
    assert told[0][0] in ("resync", "seat")


def test_escapes_and_colours_are_texts(student: Student) -> None:
    text = "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b]8;;javascript:alert(1)\x07link\x1b[2J\x9b1m\r\x08"
    told = student.until("finished", f"print({text!r}, end='')")
    assert printed(told) == text, "the page decides what of it is colour"


# --- pictures and floods ----------------------------------------------------------------------------------------------

SHOW = """
class Shown:
    def __init__(self, **kinds): self.kinds = kinds
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {kind.replace('_', '/', 1): data for kind, data in self.kinds.items()}
"""


def shown(told: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [data for name, data in told if name == "display"]


def test_only_pictures_and_texts_are_shown(student: Student) -> None:
    """A page gets only data of the listed kinds, as texts. It shows pictures as <img>, in which no script runs."""
    code = (
        SHOW
        + """
display(Shown(text_html='<script>alert(1)</script>', application_javascript='alert(1)', text_plain='plain'))
display(Shown(**{'image_svg+xml': '<svg onload="alert(1)"><script>alert(1)</script></svg>'}))
display(Shown(image_png='no picture at all', image_gif='R0lG', video_mp4='AAAA'))
display(Shown(image_png=['not', 'a', 'text'], text_plain={'a': 1}))
"""
    )
    told = shown(student.until("finished", code))
    kinds = {kind for data in told for kind in data["data"]}
    assert kinds <= {"image/png", "image/jpeg", "image/svg+xml", "text/plain"}
    assert all(isinstance(text, str) for data in told for text in data["data"].values())


FLOODS = {
    "text": "while True:\n    print('x' * 1000)",
    "two streams in turn": "import os\nwhile True:\n    os.write(1, b'x')\n    os.write(2, b'y')",
    "what clears": "from IPython.display import clear_output\nwhile True:\n    clear_output()",
    "pictures": SHOW + "for _ in range(300):\n    display(Shown(image_png='A' * 500_000))",
    "large pictures": SHOW + "for _ in range(20):\n    display(Shown(image_png='A' * 3_000_000))",
    "empty texts": SHOW + "while True:\n    display(Shown(text_plain=''))",
    "ids": SHOW + "for number in range(20):\n    display(Shown(text_plain='x'), display_id='i' * 200_000)",
    "a long error": "raise ValueError('x' * 3_000_000)",
    "a long chain of errors": (
        "def f(n):\n    try:\n        f(n - 1) if n else 1/0\n    except Exception as error:\n"
        "        raise ValueError('y' * 10_000) from error\nf(200)"
    ),
    "a long class": "raise type('E' * 1_000_000, (Exception,), {})",
}


@pytest.mark.parametrize("what", FLOODS)
def test_what_a_program_shows_is_bounded(student: Student, what: str) -> None:
    with student.events() as events:
        answer = student.ask("run", {"solution.py": FLOODS[what]})
        assert answer.status_code == 202
        told = events.until("finished")
    assert sum(len(json.dumps(data)) for _, data in told) < 8_000_000
    assert len(told) < 6_000
    kept = student.http.get("/api/exercises/double").json()["output"]
    assert sum(len(json.dumps(event)) for event in kept) < 8_000_000
    assert len(json.dumps(told[-1][1])) < 100_000, "how it ended is short"


def test_values_at_the_prompt_are_bounded(student: Student) -> None:
    with student.events() as events:
        code = "\n".join(["class Long:\n    def __repr__(self): return 'z' * 5_000_000\n", *["Long()"] * 5])
        assert student.http.post("/api/repl", json={"exercise": "double", "code": code}).status_code == 202
        told = events.until("finished")
    assert sum(len(data["text"]) for name, data in told if name == "value") <= 500_000


def test_hostile_completion_names_nothing_but_words(student: Student) -> None:
    code = (
        "class X:\n    def __dir__(self): return ['ok', '<b>', 'a' * 100_000, '\\n', 1]\n"
        "    def __getattr__(self, name): raise SystemExit\nx = X()"
    )
    student.until("finished", code)
    answer = student.http.post("/api/complete", json={"exercise": "double", "code": "x.", "cursor": 2})
    assert answer.status_code == 200
    assert all(re.fullmatch(r"\w{1,200}", match.rpartition(".")[2]) for match in answer.json()["matches"])


def test_nothing_of_all_this_was_a_fault_of_the_server(room: Target, student: Student) -> None:
    student.until("finished", "print(1)")
    assert "Traceback" not in Path(room.log).read_text()

"""The % commands, and the output of a block."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxybox.repl.commands import COMMANDS, completions, size
from tests.explained import PROGRAMS

Make = Callable[..., Any]


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_a_value_and_output(sitting: Make) -> None:
    assert sitting().do("print('out', end='')\n6 * 7") == "out\n42\n"


def test_an_error_without_frames_of_ours(sitting: Make) -> None:
    seen = sitting().do("def f(): raise LookupError('why')", "f()").splitlines()
    assert [line for line in seen if set(line) - set(" ^~")] == [  # marks came with Python 3.11
        "Traceback (most recent call last):", '  File "<session-2>", line 1, in <module>', "    f()",
        '  File "<session-1>", line 1, in f', "    def f(): raise LookupError('why')", "LookupError: why",
    ]  # fmt: skip


def test_a_picture_is_told_of(sitting: Make) -> None:
    seen = sitting().do("display({'text/plain': 'a plot', 'image/png': b'...'}, raw=True)")
    assert seen == "a plot\n(image/png: a notebook would show it)\n"


def test_a_table_is_its_text(sitting: Make) -> None:
    assert sitting().do("display({'text/plain': 'a table', 'text/html': '<table>'}, raw=True)") == "a table\n"


def test_cells_of_notebooks(sitting: Make) -> None:
    box = sitting()
    assert box.do("%matplotlib inline", "%mat", "5;", "%matplotlib inline\n\n6 * 7") == "42\n"
    assert box.do("x = 1\n%matplotlib inline\nx") == "1\n"
    assert box.do("%matplotlib qt").startswith("proxybox: a terminal shows no figures")


@pytest.mark.parametrize("wants", PROGRAMS)
def test_what_a_box_has_not_is_told_as_everywhere(sitting: Make, wants: str) -> None:
    code, text = PROGRAMS[wants]
    (line,) = (line for line in sitting().do(code).splitlines() if line.startswith("proxybox: "))
    assert text in line


@pytest.mark.parametrize(("line", "words"), [
    ("%timeit 6 * 7", "there is no command %timeit: %time? (%help lists them; IPython's other magics are not there)"),
    ("%pip install numpy", "there is no command %pip (%help lists them; IPython's other magics are not there)"),
    ("%%time\n6 * 7", "there are no magics of cells (%%) at this prompt (%help lists its commands)"),
    ("!ls -l", PROGRAMS["a program"][1]),
])  # fmt: skip
def test_what_ipython_has_and_this_prompt_has_not_is_told(sitting: Make, line: str, words: str) -> None:
    assert sitting().do(line) == f"proxybox: {words}\n"


def test_what_ends_is_told(sitting: Make) -> None:
    box = sitting(limits={"wall_time": 2}, session={"grace": 0})
    seen = box.do("while True: pass")
    assert "the time limit of 2 s was reached: do less at a time (limits.wall_time)" in seen
    assert "a new box was started" in seen
    assert box.do("1") == "1\n"


def test_memory(sitting: Make) -> None:
    seen = sitting(limits={"memory": "64M"}).do("bytes(10**9)").splitlines()
    assert seen[-2:] == [
        "MemoryError", "proxybox: the memory limit of 64 MiB was reached: hold less at a time (limits.memory)"
    ]  # fmt: skip


def test_a_shell_works_until_the_end_of_the_file(sitting: Make) -> None:
    box = sitting()
    box.typist.blocks = ["1", "", "   ", "%time 2", "exit", "3"]
    assert box.shell.work() == 0
    assert box.typist.blocks == ["3"]
    box.typist.blocks = ["raise SystemExit(5)", "3"]
    assert box.shell.work() == 5


def test_input_is_asked_for_with_what_was_printed(sitting: Make) -> None:
    box = sitting()
    box.typist.answers = ["Ada", "word"]
    assert box.do("import getpass\ninput('name\\x1b[2J? '), getpass.getpass('secret? ')").endswith("('Ada', 'word')\n")
    assert [echo for _, echo in box.typist.asked] == [True, False]
    assert box.do("try: input()\nexcept EOFError: print('end')") == "end\n"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [("len?", "Return the number of items"), ("len??", "len("), ("nothing?", "nothing is known of nothing"),
     ("x?", "x  (int)\n5")],
)  # fmt: skip
def test_inspection(sitting: Make, typed: str, shown: str) -> None:
    box = sitting()
    box.do("x = 5")
    assert shown in box.do(typed)


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [20, 50, 80, 200])
def test_help_is_wrapped_at_words(sitting: Make, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    seen = sitting().do("%help")
    words = " ".join(seen.split())
    for each in COMMANDS.values():
        assert " ".join(each.short.split()) in words
    assert max(map(len, seen.splitlines())) < max(columns, 44)  # the form of a command is never cut


def test_help_lists_all_and_tells_of_one(sitting: Make) -> None:
    box = sitting()
    seen = box.do("%help")
    assert all(f"%{name}" in seen for name in COMMANDS)
    assert (
        box.do("%help get") == "%get PATH [HOST_PATH] [-f]\n  Copies a file out of the box; -f replaces one of yours.\n"
    )
    assert "there is no command %nope" in box.do("%help nope")


@pytest.mark.parametrize(
    ("line", "seen"),
    [("%nope", "there is no command %nope (%help lists "), ("%r", "%reset or %run?"), ("%", "there is no command"),
     ("%trace up", "usage: %trace on|off|denied"), ("%cat", "usage: %cat PATH"), ("%cat 'a", "No closing quotation"),
     ("%branch a b", "usage"), ("%branch -d main", "usage"), ("%branch 1", "usage"), ("%time", "usage"),
     ("%page", "nothing was cut"), ("%undo", "there is no earlier state"), ("%reset all", "usage"),
     ("%get nothing", "No such file or directory: nothing"), ("%put /nothing", "No such file or directory: /nothing"),
     ("%get /etc/hostname ~nobody-of-this-name/x", "home directory"), ("%put 'a\0b'", "null byte"),
     ("%cat 'a\x1b]0;x", "a\\x1b]0;x"), ("%cat /etc", "Is a directory: /etc"),
     ("%run /nothing.py", "No such file"), ("%save", "usage")],
)  # fmt: skip
def test_what_makes_no_sense_is_said(sitting: Make, line: str, seen: str) -> None:
    said = sitting().do(line)
    assert said.startswith("proxybox: ")
    assert seen in said


def test_a_beginning_is_enough(sitting: Make) -> None:
    assert sitting().do("%den") == "Nothing was refused.\n"


def test_policy_and_limits(sitting: Make) -> None:
    box = sitting(limits={"cpu_time": 7})
    assert "What it can read" in box.do("%policy")
    box.do("print('a' * 50)")
    seen = dict(line.split("  ", 1) for line in box.do("%limits").splitlines())
    assert seen["output of the last block"].split() == ["51", "1M"]
    assert seen["CPU time of the last block"].split()[-2:] == ["7.00", "s"]
    assert seen["copies (%undo, %branch)"].split()[-1] == "12"


def test_files_both_ways(sitting: Make, tmp_path: Path) -> None:
    box = sitting()
    source, target = tmp_path / "in put.txt", tmp_path / "out.txt"
    source.write_text("text\n")
    assert box.do(f"%put '{source}' data.txt") == "5 bytes are in the box as data.txt.\n"
    assert box.do("%cat data.txt") == "text\n"
    assert box.do("%ls").split()[1] == "5"
    assert box.do("open('data.txt').read()") == "'text\\n'\n"
    assert box.do(f"%get data.txt {target}") == f"5 bytes are in {target}.\n"
    assert target.read_text() == "text\n"
    assert "exists already" in box.do(f"%get data.txt {target}")
    assert "5 bytes" in box.do(f"%get data.txt {target} -f")
    box.do(f"%put '{source}'")
    assert box.do("import os; os.listdir()") == "['data.txt', 'in put.txt']\n"
    assert "No such file" in box.do(f"%get nothing {tmp_path}/x")
    assert not (tmp_path / "x").exists()


def test_trace(sitting: Make) -> None:
    box = sitting()
    box.do("import os")
    assert box.do("%trace on") == "Tracing is on.\n"
    seen = box.do("os.stat('/etc')")
    assert '  newfstatat(AT_FDCWD, "/etc"' in seen
    assert "exchange" not in seen
    assert box.do("%trace denied", "os.stat('/etc').st_uid").endswith("denied.\n0\n")
    assert "socket(" in box.do("import socket\ntry: socket.socket()\nexcept OSError: pass")
    assert box.do("%trace off", "os.stat('/etc').st_uid").endswith("off.\n0\n")


def test_denied(sitting: Make) -> None:
    box = sitting()
    box.do("import socket\nfor _ in range(3):\n    try: socket.socket()\n    except OSError: pass")
    assert "socket: EACCES" in box.do("%denied") or "socket: E" in box.do("%denied")
    assert "3 times" in box.do("%denied")


def test_reset(sitting: Make) -> None:
    box = sitting()
    box.do("x = 1\nopen('f', 'w').close()", "%reset")
    assert "NameError" in box.do("x")
    assert box.do("import os; os.listdir()") == "['f']\n"
    seen = box.do("%reset box")
    assert seen.count("new box") == 1
    assert len(seen.splitlines()) == 1
    assert box.do("import os; os.listdir()") == "[]\n"


def test_undo(sitting: Make) -> None:
    box = sitting()
    for number in range(9):
        box.do(f"x = {number}\nopen('f', 'w').write(str(x))\nNone")
    for number in (7, 6, 5, 4, 3):
        assert box.do("%undo") == "Back to before the last block.\n"
        assert box.shell.console.session.get("x") == number
    assert "there is no earlier state" in box.do("%undo")
    assert box.do("x += 10\nx") == "13\n"
    box.do("%undo")
    assert box.shell.console.session.get("x") == 3


def test_undo_where_no_copies_are_allowed(sitting: Make) -> None:
    box = sitting(session={"branches": 0})
    box.do("x = 1")
    assert "the policy allows no copies (session.branches)" in box.do("%undo")


def test_undo_while_threads_lived(sitting: Make) -> None:
    box = sitting()
    box.do(
        "import threading, time\nstop = threading.Event()\nthread = threading.Thread(target=stop.wait)\nthread.start()"
    )
    box.do("x = 1")
    assert "could not be kept" in box.do("%undo")
    box.do("stop.set(); thread.join()")
    box.do("y = 2")
    assert box.do("%undo") == "Back to before the last block.\n"


def test_branches(sitting: Make) -> None:
    box = sitting()
    box.do("x = 1")
    assert box.do("%branch other") == "A new branch: other.\n"
    box.do("x = 2")
    assert box.do("%branch") == "  main\n* other\n"
    assert box.do("%branch main", "x") == "In the branch: main.\n1\n"
    assert box.do("%branch other", "x") == "In the branch: other.\n2\n"
    assert box.do("%branch main", "%branch -d other", "%branch").endswith("The branch other is gone.\n* main\n")


def test_too_many_branches(sitting: Make) -> None:
    box = sitting(session={"branches": 1})
    assert "A new branch" in box.do("%branch a")
    assert "session.branches" in box.do("%branch b")
    assert box.shell.console.current == "a"


def test_time(sitting: Make) -> None:
    seen = sitting().do("%time 6 * 7").split("\n")
    assert seen[0] == "42"
    assert seen[1].startswith("wall ")


def test_save_and_run(sitting: Make, tmp_path: Path) -> None:
    box = sitting()
    box.do("def f():\n    return 5", "%time f()")
    file = tmp_path / "saved.py"
    assert box.do(f"%save {file}") == f"2 blocks are in {file}.\n"
    assert file.read_text() == "def f():\n    return 5\nf()\n"
    assert "exists already" in box.do(f"%save {file}")
    assert "2 blocks" in box.do(f"%save {file} -f")
    file.write_text("y = f() + 1\nprint(y)\n1/0\n")
    seen = box.do(f"%run {file}")
    assert seen.startswith("6\n")
    assert 'File "saved.py", line 3' in seen
    assert box.do("y") == "6\n"


def test_a_long_value_is_cut(sitting: Make) -> None:
    box = sitting()
    seen = box.do("'a' * 20_000")
    assert len(seen) < 9000
    assert "12,002 characters more: %page shows all of it" in seen
    assert len(box.shell.screen.last) == 20_002


# --- completion -------------------------------------------------------------------------------------------------------


def test_completions(sitting: Make, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("")
    (tmp_path / "one dir").mkdir()
    box = sitting()
    box.do("import os\nos.makedirs('data/in')\nopen('data/x\\x1b', 'w').close()")

    def complete(text: str) -> tuple[int, list[str]]:
        start, found = completions(box.shell, text)
        return start, list(found)

    assert complete("%un") == (1, ["undo"])
    assert complete("%trace o") == (7, ["on", "off"])
    assert complete("%reset ") == (7, ["box"])
    assert complete("%cat da") == (5, ["data/"])
    assert complete("%cat data/")[1][:1] == ["data/in/"]
    assert complete(f"%put {tmp_path}/one.") == (5, [f"{tmp_path}/one.txt"])
    assert complete("%put x da") == (7, ["data/"])
    assert complete("%branch ") == (8, ["main"])
    assert complete("%help tr") == (6, ["trace"])
    assert complete("%undo x")[1] == []
    assert complete("%nope x")[1] == []


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (1023, "1023"), (1024, "1K"), (1536, "1.5K"), (512 << 20, "512M"), (3 << 30, "3G")]
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text

"""The prompt in a real terminal, screens compared as text."""

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox.modulepath import programs_of_absolute_folders

CTRL_C, CTRL_D, CTRL_R, CTRL_U, TAB, F1, UP = "\x03", "\x04", "\x12", "\x15", "\t", "\x1bOP", "\x1b[A"
Make = Callable[..., Any]


def body(term: Any) -> list[str]:
    """Returns all lines except the banner, the bar, and the marks that came with Python 3.11."""
    return [line for line in term.lines if not line.startswith(("proxybox 0", " time ")) and set(line) - set(" ^~")]


def test_values_errors_and_blocks(terminal: Make) -> None:
    term = terminal()
    term.type("1 + 1\r")
    term.see("\n2\n")
    term.type("def f(a, b=2):\rreturn a + b\r\rf(3)\r")
    term.see("\n5\n")
    term.type("1/0\r")
    term.see("ZeroDivisionError: division by zero")
    term.until(term.at_prompt)
    assert body(term) == [
        ">>> 1 + 1", "2", ">>> def f(a, b=2):", "...     return a + b", "...", ">>> f(3)", "5", ">>> 1/0",
        "Traceback (most recent call last):", '  File "<session-5>", line 1, in <module>', "    1/0",
        "ZeroDivisionError: division by zero", ">>>",
    ]  # fmt: skip


def test_the_bar_tells_what_is_used(terminal: Make) -> None:
    term = terminal()
    term.run("print('a' * 100)")
    term.until(lambda: all(text in term.lines[-1] for text in ("time ", "of 1G", "of 16M", "calls")))


def test_completion(terminal: Make) -> None:
    term = terminal()
    term.run("import os")
    term.type("os.path.jo" + TAB)
    term.see(">>> os.path.join")
    term.type("('a', 'b')\r")
    term.see("'a/b'")
    term.type("os.path.is" + TAB)
    term.see("isabs", "isfile")
    term.type(CTRL_U + "%bra" + TAB)
    term.see(">>> %branch")


def test_tab_indents_where_there_is_nothing_to_complete(terminal: Make) -> None:
    term = terminal()
    term.type("if 1:\r")
    term.see("\n...")
    term.type(CTRL_U + TAB + "print('in')\r\r")
    term.see("\nin\n")


def test_f1_shows_what_is_known(terminal: Make) -> None:
    term = terminal()
    term.run("def area(width, height=1): 'The area.'")
    term.type("area" + F1)
    term.see("area(width, height=1)", "The area.", "┌")
    term.type("(2)")
    term.until(lambda: "┌" not in term.text)
    assert ">>> area(2)" in term.text
    term.type(CTRL_U + "area?\r")
    term.see("area(width, height=1)  (function)")


def test_history_is_kept_and_found(terminal: Make, tmp_path: Path) -> None:
    term = terminal()
    term.run("first = 'block'")
    term.type("for i in range(2):\rprint(i)\r\r")
    term.see("\n1\n")
    term.until(term.at_prompt)
    term.type(CTRL_D)
    assert term.end() == 0
    file = tmp_path / "state" / "proxybox" / "repl_history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = terminal()
    again.type(UP)
    again.see(">>> for i in range(2):", "...     print(i)")
    again.type(CTRL_C)
    again.until(again.at_prompt)
    again.type("fir" + UP)
    again.see(">>> first = 'block'")
    again.type(CTRL_C)
    again.until(again.at_prompt)
    again.type(CTRL_R + "bloc")
    again.see("first = 'block'")


def test_no_history(terminal: Make, tmp_path: Path) -> None:
    term = terminal("--no-history")
    term.run("1")
    term.type(CTRL_D)
    assert term.end() == 0
    assert not (tmp_path / "state").exists()


def test_a_history_that_cannot_be_kept_is_said(terminal: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    term = terminal(XDG_STATE_HOME=str(tmp_path / "file"))
    term.see("the history is not stored")


def test_the_box_does_not_see_the_history(terminal: Make, tmp_path: Path) -> None:
    term = terminal()
    path = tmp_path / "state" / "proxybox" / "repl_history"
    assert "FileNotFoundError" in term.run(f"open({str(path)!r})")


def test_ctrl_c(terminal: Make) -> None:
    term = terminal()
    term.run("import time")
    term.type("half a line")
    term.see("half a line")
    term.type(CTRL_C)
    term.until(term.at_prompt)
    for block in ("print('begun'); time.sleep(1000)", "print('begun')\nwhile True: pass"):
        term.type(f"exec({block!r})\r")
        term.until(lambda: "\nbegun" in term.text)
        term.type(CTRL_C)
        term.see("KeyboardInterrupt")
        term.until(term.at_prompt)
        term.screen.reset()
        term.type("\x0c")
        term.until(term.at_prompt)
    term.type("input('question ')\r")
    term.see("[input] question")
    term.type("half" + CTRL_C)
    term.see("KeyboardInterrupt")
    assert "'kept'" in term.run("'ke' + 'pt'")


#: A program that no KeyboardInterrupt ends after its output.
DEAF = "n = 0\nwhile 1:\n try:\n  print('spins', n)\n  while 1: pass\n except KeyboardInterrupt: n += 1"


def test_ctrl_c_again_and_again_ends_the_box(terminal: Make) -> None:
    term = terminal("--set", "limits.wall_time=none", "--set", "limits.cpu_time=none")
    term.run("x = 1")
    term.type(f"exec({DEAF!r})\r")
    term.see("\nspins 0")
    term.type(CTRL_C)
    term.see("\nspins 1")
    term.type(CTRL_C)
    term.see("Ctrl-C once more ends the box", "\nspins 2")
    term.type(CTRL_C)
    term.see("a new box was started")
    term.until(term.at_prompt)
    assert "NameError" in term.run("x")


def test_ctrl_c_however_often_does_not_end_the_prompt(terminal: Make) -> None:
    """Neither while the box ends and another one starts, nor when it comes too late."""
    term = terminal("--set", "limits.wall_time=none", "--set", "limits.cpu_time=none")
    term.type(f"exec({DEAF!r})\r")
    term.see("\nspins 0")
    term.type(CTRL_C)
    term.see("\nspins 1")
    term.type(CTRL_C)
    term.see("Ctrl-C once more ends the box", "\nspins 2")
    while "a new box was started" not in term.text:  # until the new box has started
        term.child.kill(signal.SIGINT)
        term._read(0.005)
    for _ in range(10):
        term.child.kill(signal.SIGINT)
    assert "'kept'" in term.run("'ke' 'pt'")
    term.type("exit\r")
    assert term.end() == 0


def test_ctrl_c_again_and_again_at_a_question_ends_the_box(terminal: Make) -> None:
    """An answer between them begins the count again."""
    term = terminal()
    code = "while 1:\n try: print('got', input('more? '))\n except (KeyboardInterrupt, EOFError): print('no')"

    def asked() -> int:
        """Returns the number of questions, when the program waits for an answer; otherwise 0."""
        return term.text.count("[input] more?") if term.row.startswith("[input] more?") else 0

    term.type(f"exec({code!r})\r")
    for number, typed in enumerate((CTRL_C, "one\r", CTRL_C, "two\r", CTRL_C, CTRL_C, CTRL_C), start=1):
        term.until(lambda number=number: asked() == number)  # type: ignore[misc]
        term.type(typed)
    assert term.text.count("\nno") == 4
    assert "\ngot one" in term.text
    assert "\ngot two" in term.text
    term.see("Ctrl-C once more ends the box", "a new box was started")
    term.until(term.at_prompt)


def test_ctrl_c_gives_up_a_command_that_waits(terminal: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    term = terminal()
    term.type(f"%put {tmp_path}/pipe\r")
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)  # open(2) waits for a reader
    try:
        term.type(CTRL_C)
        term.see("proxybox: interrupted")
    finally:
        os.close(writer)
    assert "'kept'" in term.run("'ke' 'pt'")


def test_ctrl_z_and_fg(terminal: Make) -> None:
    """At the prompt, at a question, and while a program runs; the shell's terminal settings are restored."""
    term = terminal(shell=True)
    term.run("x = 42")
    for line, seen in (("", ""), ("y = input('question ')\r", "[input] question"),
                       ("import time; print('be' 'gun'); time.sleep(1000)\r", "\nbegun")):  # fmt: skip
        term.type(line)
        term.see(seen)
        term.type("\x1a")
        term.until(lambda: term.row.startswith("shell$"))
        term.type("stty -a | grep -ow '.echo '; echo sh''ell\r")
        term.see("\nshell\n")
        assert "-echo " not in term.text
        term.screen.reset()
        shell = os.tcgetpgrp(term.child.child_fd)
        term.type("fg\r")
        term.until(lambda shell=shell: os.tcgetpgrp(term.child.child_fd) != shell)
        if line.startswith("y"):
            term.see("[input] question")
            term.type("answer\r")
        elif line:
            term.type(CTRL_C)
            term.see("KeyboardInterrupt")
        term.until(term.at_prompt)
    assert "(42, 'answer')" in term.run("x, y")


def test_input_and_passwords(terminal: Make) -> None:
    term = terminal()
    term.type("name = input('name? ')\r")
    term.see("[input] name?")
    term.type("Ada\r")
    term.until(term.at_prompt)
    term.type("import getpass; word = getpass.getpass('word: ')\r")
    term.see("[input] word:")
    term.type("secret\r")
    term.until(term.at_prompt)
    assert "secret" not in term.text
    assert "('Ada', 'secret')" in term.run("name, word")
    term.type("try: input()\rexcept EOFError: print('the end')\r\r")
    term.until(term.at_question)
    term.type(CTRL_D)
    term.see("\nthe end")


@pytest.mark.parametrize(("typed", "status"), [("exit", 0), ("quit", 0), ("exit(3)", 3), ("raise SystemExit(4)", 4)])
def test_leaving(terminal: Make, typed: str, status: int) -> None:
    term = terminal()
    term.type(typed + "\r")
    assert term.end() == status


def test_a_box_that_ends(terminal: Make) -> None:
    term = terminal()
    term.run("x = 1")
    term.type("import os; os.kill(os.getpid(), 9)\r")
    term.see("the interpreter crashed (signal 9: Killed)", "a new box was started")
    term.until(term.at_prompt)
    assert "NameError" in term.run("x")


def test_limits_that_are_met(terminal: Make) -> None:
    term = terminal("--timeout", "0.3", "--set", "output.limit=1K")
    assert "was reached: do less at a time (limits.wall_time)" in term.run("while 1: pass")
    assert "the output was cut after 1 KiB: print less (output.limit)" in term.run("print('a' * 5000)")


def test_a_pasted_block_is_one_block(terminal: Make) -> None:
    term = terminal()
    term.type("\x1b[200~total = 0\nfor i in range(4):\n    total += i\n\ntotal * 10\x1b[201~")
    term.see("total * 10")
    term.type("\r")
    term.see("\n60\n")
    assert "File" not in term.text


def test_no_colours(terminal: Make) -> None:
    term = terminal(NO_COLOR="1")
    term.run("1 / 0")
    colours = {char.fg for line in term.screen.buffer.values() for char in line.values()}
    assert colours == {"default"}


def test_colours(terminal: Make) -> None:
    term = terminal()
    term.run("1 / 0")
    assert len({char.fg for line in term.screen.buffer.values() for char in line.values()}) > 2


def test_a_dumb_terminal(terminal: Make) -> None:
    term = terminal(TERM="dumb")
    term.type("1 + 1\r")
    term.see("\n2")
    term.type("x = input('name? ')\r")
    term.see("[input]")
    term.type("Ada\r")
    term.type("x\r")
    term.see("'Ada'")
    assert b"\x1b" not in term.raw


def test_keys_as_in_vi(terminal: Make) -> None:
    term = terminal("--vi")
    term.type("abc")
    term.see(">>> abc")
    term.type("\x1b")
    term.type("0x")
    term.see(">>> bc")
    term.until(lambda: term.row == ">>> bc")


def test_the_editor(terminal: Make, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf \'print("edited", 6 * 7)\' > "$1"\n')
    editor.chmod(0o755)
    term = terminal(VISUAL=str(editor))
    term.type("%edit\r")
    term.see("edited 42")


def test_an_editor_that_is_not_there(terminal: Make) -> None:
    term = terminal(VISUAL="no-such-editor")
    term.type("%edit\r")
    term.see("no-such-editor: ")
    assert "42" in term.run("6 * 7")


def test_a_long_value_is_cut_and_paged(terminal: Make) -> None:
    term = terminal(PAGER="tail -c 20")
    term.type("list(range(20_000))\r")
    term.see("characters more: %page shows all of it")
    term.until(term.at_prompt)
    term.type("%page\r")
    term.see("19998, 19999]")


@pytest.mark.cover(1)
@pytest.mark.parametrize("path", [":{}", ".:bin:{}", "{}:"])
@pytest.mark.parametrize(
    ("typed", "named"), [("%page", {}), ("%page", {"PAGER": "mine"}), ("%edit", {}), ("%edit x.py", {"VISUAL": "mine"})]
)
def test_a_pager_or_editor_of_the_current_folder_is_not_run(
    terminal: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, named: dict[str, str], path: str
) -> None:
    """Programs of strangers may be in the current folder: names of programs are looked up elsewhere."""
    trap, tools, sprung = tmp_path / "trap", tmp_path / "tools", tmp_path / "sprung"
    for folder in (trap, trap / "bin", tools):
        folder.mkdir()
        for name in ("less", "more", "sensible-editor", "vim", "nano", "vi", *(["mine"] if folder != tools else [])):
            told = "" if folder == tools else f": > {sprung}\n"
            (folder / name).write_text(f"#!/bin/sh\n{told}test $# != 0 || cat > /dev/null\n")
            (folder / name).chmod(0o755)
    (trap / "x.py").write_text("print('from a file')")
    monkeypatch.chdir(trap)
    for name in ("PAGER", "VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    term = terminal("--no-history", PATH=path.format(tools), **named)
    term.run("list(range(20_000))")
    term.type(f"{typed}\r")
    assert "42" in term.run("6 * 7")
    assert not sprung.exists()


@pytest.mark.parametrize("path", ["", ":", ".", "bin:", None])
def test_where_no_folder_of_programs_is_absolute_those_of_the_system_are_meant(
    monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    monkeypatch.setenv("PATH", path or "")
    if path is None:
        monkeypatch.delenv("PATH")
    with programs_of_absolute_folders():
        assert os.environ["PATH"] == os.defpath
    assert os.environ.get("PATH") == path


def test_undo_and_branches(terminal: Make) -> None:
    term = terminal()
    term.run("x = 1")
    term.type("x = 2\r%undo\r")
    term.see("Back to before the last block.")
    assert "1, 'now'" in term.run("x, 'no' 'w'")
    term.type("%branch other\r")
    term.see("A new branch: other.")
    term.run("x = 3")
    term.type("%branch main\r")
    term.see("In the branch: main.")
    assert "1, 'then'" in term.run("x, 'th' 'en'")
    term.until(lambda: term.lines[-1].startswith(" main "))


# --- attacks: what prompt_toolkit draws -------------------------------------------------------------------------------

OWNED = "\x1b]0;owned\x07\x1b]52;c;AAAA\x07\x9b2J\u202e"
#: Sequences that must not reach the terminal.
FORBIDDEN = (b"\x1b]0;", b"\x1b]52", b"\xc2\x9b", b"\xe2\x80\xae")


def harmless(term: Any) -> bool:
    return term.screen.title == "" and not any(sequence in term.raw for sequence in FORBIDDEN)


def test_names_that_are_completed(terminal: Make) -> None:
    term = terminal()
    term.run(f"class A:\n    def __dir__(self): return ['good_one', 'good_two', 'good' + {OWNED!r}]\n\na = A()")
    term.type("a.go" + TAB)
    term.see("good_one", "good_two")
    assert harmless(term)


def test_what_is_known_of_an_object(terminal: Make) -> None:
    term = terminal()
    term.run(
        f"class A:\n    __doc__ = 'the doc' + {OWNED!r}\n"
        f"    def __repr__(self): return 'the repr' + {OWNED!r}\n\na = A()"
    )
    term.type("a" + F1)
    term.see("the repr\\x1b]0;owned", "the doc")
    assert harmless(term)


def test_what_a_program_asks_with(terminal: Make) -> None:
    """A question must not look like the prompt."""
    term = terminal()
    term.type(f"input('x\\n' + {OWNED!r} + '>>> ')\r")
    term.see("[input] \\x1b]0;owned")
    assert harmless(term)
    term.type("%get something\r")
    term.see("'%get something'")


def test_what_a_program_types_for_us(terminal: Make) -> None:
    """Sequences that a terminal would answer on standard input never reach it, so nothing is typed at the prompt."""
    term = terminal()
    term.type("print('\\x1b[c\\x1b[6n\\x05', end='')\r")
    term.see("\\x1b[c\\x1b[6n\\x05")
    term.until(term.at_prompt)
    assert "'kept'" in term.run("'ke' 'pt'")


def test_a_session_leaves_a_record(terminal: Make, tmp_path: Path) -> None:
    term = terminal("--record", str(tmp_path / "records"))
    term.run("import random; a = random.random()")
    term.run("print(a > 0)")
    term.type("%undo\r")
    term.see("copies")
    term.type(CTRL_D)
    term.end()
    assert proxybox.replay(tmp_path / "records" / "0001.pbx").ok

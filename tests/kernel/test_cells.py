"""What cells print, show and ask for, how they end, and how they are interrupted."""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox.kernel.box import KernelBox, default_policy
from tests.explained import PROGRAMS
from tests.kernel.conftest import Notebook, opened

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

#: A cell that prints when it has begun; then it computes for ever.
LOOP = "print('begun')\nwhile True: pass"
STUBBORN = """
begun = False
while True:
    try:
        if not begun:
            begun = True
            print('begun')
        while True: pass
    except KeyboardInterrupt: pass
"""


def told(notebook: Notebook) -> dict[str, Any]:
    """Returns the content of the only error message."""
    (error,) = [content for kind, content in notebook.messages if kind == "error"]
    return error


class Interrupting:
    """Collects messages, and calls `act` when the cell has begun."""

    def __init__(self, notebook: Notebook, act: Callable[[], object]) -> None:
        self.notebook, self.act = notebook, act

    def __call__(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind not in ("status", "execute_input"):
            self.notebook.messages.append((kind, content))
        if kind == "stream" and "begun" in content["text"]:
            self.act()


# --- output -----------------------------------------------------------------------------------------------------------


def test_a_print_is_one_message(shared: Notebook) -> None:
    shared.run("print('a', 'b')\nprint('c')")
    assert shared.messages == [("stream", {"name": "stdout", "text": "a b\nc\n"})]


def test_streams_and_values_keep_their_order(shared: Notebook) -> None:
    shared.run("import sys\nprint(1)\nprint(2, file=sys.stderr)\nprint(3)\ndisplay(4)\nprint(5)\n6")
    assert [content.get("text") or content["data"]["text/plain"] for _, content in shared.messages] == [
        "1\n", "2\n", "3\n", "4", "5\n", "6",
    ]  # fmt: skip


def test_a_flood_is_few_messages(shared: Notebook) -> None:
    shared.run("for _ in range(10_000): print('a' * 99)")
    assert len(shared.text()) == 1_000_000
    assert len(shared.messages) < 500  # a message contains many of the 10,000 lines
    assert shared.text("stderr") == ""


def test_a_flood_of_changes_between_the_streams_is_few_messages(shared: Notebook) -> None:
    shared.run("import os\nfor _ in range(20_000): os.write(1, b'a'); os.write(2, b'b')")
    assert (shared.text(), shared.text("stderr")) == ("a" * 20_000, "b" * 20_000)
    assert len(shared.messages) < 5_000
    shared.run("import sys\nfor n in range(4): print(n, file=(sys.stdout, sys.stderr)[n % 2])")
    assert [content["text"] for _, content in shared.messages] == ["0\n", "1\n", "2\n", "3\n"]


def test_what_is_beyond_the_limit_is_said_once_and_not_on_stderr(shared: Notebook) -> None:
    reply = shared.run("for _ in range(30_000): print('a' * 99)")
    assert reply["status"] == "ok"
    assert len(shared.text()) == 1 << 20
    assert [kind for kind in shared.kinds() if kind != "stream"] == ["display_data"]
    text = shared.messages[-1][1]["data"]["text/plain"]
    assert text == "[the output was cut after 1 MiB: print less (output.limit)]"
    assert shared.text("stderr") == ""


def test_output_comes_while_the_cell_runs(notebook: Notebook) -> None:
    """A line without an end, too, where the program flushes it."""
    act = Interrupting(notebook, notebook.manager.interrupt_kernel)
    reply = notebook.run("print('begun', end='', flush=True)\nwhile True: pass", output_hook=act)
    assert reply["ename"] == "KeyboardInterrupt"


def test_escape_sequences_are_made_visible(shared: Notebook) -> None:
    shared.run("print('\\x1b]0;title\\x07')\n'\\u202e'")
    assert shared.messages[0][1]["text"] == "\\x1b]0;title\\x07\n"
    reply = shared.run("class A(Exception): pass\nA.__name__ = '\\x1b[2J'\nraise A('\\x1b[2J')")
    assert reply["ename"] == "\\x1b[2J"
    assert reply["evalue"] == "\\x1b[2J"
    assert "\x1b[2J" not in "".join(reply["traceback"])


def test_a_silent_cell(shared: Notebook) -> None:
    assert shared.run("print(1)\n2", silent=True)["status"] == "ok"
    assert shared.messages == []


def test_of_html_tables_and_text_are_shown(shared: Notebook) -> None:
    shared.run(
        "from IPython.display import HTML, Javascript\nHTML('<b style=\"color: red\">bold</b><script>x</script>')"
    )
    assert shared.messages[0][1]["data"] == {"text/plain": "<IPython.display.HTML object>", "text/html": "<b>bold</b>"}
    shared.run("Javascript('alert(1)')")
    assert shared.messages[0][1]["data"] == {"text/plain": "alert(1)\n[not shown: application/javascript]"}


def test_expressions_for_the_front_end(shared: Notebook) -> None:
    reply = shared.run("x = [1]", user_expressions={"a": "x * 2", "b": "1 / 0", "c": "object"})
    assert reply["user_expressions"]["a"] == {"status": "ok", "data": {"text/plain": "[1, 1]"}, "metadata": {}}
    assert reply["user_expressions"]["b"]["ename"] == "ZeroDivisionError"
    assert reply["user_expressions"]["c"]["data"] == {"text/plain": "<class 'object'>"}


def test_questions(shared: Notebook) -> None:
    shared.run("def double(x):\n    'Twice.'\n    return 2 * x")
    (page,) = shared.run("double??")["payload"]
    assert page["data"]["text/plain"].startswith("Signature: double(x)")
    assert "Docstring: Twice." in page["data"]["text/plain"]
    assert "return 2 * x" in page["data"]["text/plain"]
    assert "return 2 * x" not in shared.run("?double")["payload"][0]["data"]["text/plain"]
    assert shared.run("nothing?")["payload"] == []
    assert shared.text() == "Object `nothing` not found.\n"


# --- errors, limits ---------------------------------------------------------------------------------------------------


def test_a_traceback_has_colours(shared: Notebook) -> None:
    reply = shared.run("x = 0\n1 / x")
    assert (reply["ename"], reply["evalue"]) == ("ZeroDivisionError", "division by zero")
    assert "\x1b[" in "".join(reply["traceback"])
    assert told(shared)["traceback"] == reply["traceback"]
    assert shared.kinds() == ["error"]


def test_magics_are_said_not_to_be_there(shared: Notebook) -> None:
    for code in ("%matplotlib widget", "%time 1", "x = 1\n!ls"):
        assert "%magics" in shared.run(code)["evalue"]
    assert "%magics" not in shared.run("1 +")["evalue"]


def test_widgets_are_said_not_to_be_there(shared: Notebook) -> None:
    for code in ("import ipywidgets", "import math\nfrom ipywidgets.widgets import Button"):
        reply = shared.run(code)
        assert reply["evalue"].startswith("No module named 'ipywidgets"), reply
        assert "there are no widgets: they need a connection" in reply["evalue"]
        assert "there are no widgets" in reply["traceback"][-1]
    for code in ("import IPython.core.magic", "from IPython.display import Video", "from IPython import embed"):
        assert "of that there is IPython.display" in shared.run(code)["evalue"]
    assert "ipywidget is not part of this box" in shared.run("import ipywidget")["evalue"]
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Button()"}
    shared.run(f"display({view!r}, raw=True)")
    words = "Button()\n[not shown: application/vnd.jupyter.widget-view+json (a box has no widgets)]"
    assert shared.messages == [("display_data", {"data": {"text/plain": words}, "metadata": {}})]


@pytest.mark.parametrize("wants", PROGRAMS)
def test_what_a_box_has_not_is_told_as_everywhere(shared: Notebook, wants: str) -> None:
    code, text = PROGRAMS[wants]
    reply = shared.run(code)
    assert text in reply["evalue"]
    assert text in reply["traceback"][-1]
    assert shared.run("x = None")["status"] == "ok"


def test_a_page_that_wants_a_connection_is_told_that_there_is_none(shared: Notebook) -> None:
    """The answer is the protocol's message that the connection is closed, so that the page does not wait."""
    client = shared.client
    for kind in ("comm_open", "comm_msg"):
        content = {"comm_id": "1", "target_name": "jupyter.widget.control", "data": {}}
        message = client.session.msg(kind, content)
        client.shell_channel.send(message)
        told = []
        while not told or told[-1]["content"].get("execution_state") != "idle":
            heard = client.get_iopub_msg(timeout=60)
            if heard["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                told.append(heard)
        (closed,) = (each for each in told if each["msg_type"] == "comm_close")
        assert closed["content"]["comm_id"] == "1"
        assert "there are no widgets" in closed["content"]["data"]["evalue"]
    client.shell_channel.send(client.session.msg("comm_close", {"comm_id": "1", "data": {}}))
    asked = client.comm_info("jupyter.widget")
    while (reply := client.get_shell_msg(timeout=60))["parent_header"]["msg_id"] != asked:
        pass
    assert reply["content"] == {"status": "ok", "comms": {}}
    assert shared.run("1")["status"] == "ok"


def test_exit_ends_the_cell(shared: Notebook) -> None:
    reply = shared.run("y = 1\nraise SystemExit(3)")
    assert (reply["ename"], reply["evalue"]) == ("SystemExit", "3 (the cell has ended, the session goes on)")
    assert shared.run("y")["status"] == "ok"


@pytest.mark.full
def test_a_cell_that_takes_too_long(installed: Callable[..., str], tmp_path: Path) -> None:
    policy = tmp_path / "short.toml"
    policy.write_text("[limits]\nwall_time = 0.5\n[output]\nlimit = 1000\nescapes = 'raw'\n")
    with opened(installed("short", "--policy", str(policy))) as notebook:
        reply = notebook.run("x = 1\nwhile True: pass")
        assert reply["ename"] == "TimeLimitExceeded"
        assert "the time limit of 500 ms was reached: do less at a time (limits.wall_time)" in reply["evalue"]
        assert "names are kept" in reply["evalue"]
        notebook.run("x")
        assert notebook.kinds() == ["execute_result"]

        reply = notebook.run(STUBBORN)
        assert reply["ename"] == "TimeLimitExceeded"
        assert "names of earlier cells are gone" in reply["evalue"]
        assert notebook.run("x")["ename"] == "NameError"

        notebook.run("print('\\x1b[31m')")
        assert notebook.text() == "\x1b[31m\n"
        assert notebook.text("stderr") == ""


def test_an_interpreter_that_ends(shared: Notebook) -> None:
    reply = shared.run("import os\nos._exit(3)")
    assert reply["ename"] == "SessionEnded"
    assert shared.run("import os; os.kill(os.getpid(), 9)")["ename"] == "InterpreterCrashed"
    shared.run("1 + 1")
    assert shared.kinds() == ["execute_result"]


# --- input ------------------------------------------------------------------------------------------------------------


def answering(notebook: Notebook, *answers: str) -> tuple[list[dict[str, Any]], Callable[[Any], None]]:
    asked: list[dict[str, Any]] = []

    def answer(message: dict[str, Any]) -> None:
        asked.append(message["content"])
        notebook.client.input(answers[len(asked) - 1])

    return asked, answer


def test_input(shared: Notebook) -> None:
    asked, answer = answering(shared, "Ada", "secret", "")
    code = "import getpass\nprint('hello')\nx = input('name? '), getpass.getpass('password: '), input()\nx"
    shared.run(code, allow_stdin=True, stdin_hook=answer)
    assert asked == [
        {"prompt": "name? ", "password": False}, {"prompt": "password: ", "password": True},
        {"prompt": "", "password": False},
    ]  # fmt: skip
    assert shared.messages[-1][1]["data"] == {"text/plain": "('Ada', 'secret', '')"}
    assert "name?" not in shared.text()


def test_the_end_of_input(shared: Notebook) -> None:
    _, answer = answering(shared, "\x04")
    reply = shared.run("input('more? ')", allow_stdin=True, stdin_hook=answer)
    assert (reply["ename"], "allow_stdin" in reply["evalue"]) == ("EOFError", False)


def test_nobody_to_ask(shared: Notebook) -> None:
    reply = shared.run("input('name? ')")
    assert reply["ename"] == "EOFError"
    assert reply["evalue"].endswith("this front end takes no input (allow_stdin is false)")
    assert reply["evalue"] in reply["traceback"][-1]
    assert shared.text("stderr") == ""
    assert shared.run("1")["status"] == "ok"


def test_an_interrupt_while_somebody_is_asked(notebook: Notebook) -> None:
    def press(_: Any) -> None:
        notebook.manager.interrupt_kernel()

    reply = notebook.run("x = 1\ninput('name? ')", allow_stdin=True, stdin_hook=press)
    assert reply["ename"] == "KeyboardInterrupt"
    assert notebook.run("x")["status"] == "ok"


# --- interrupts, restart, the end -------------------------------------------------------------------------------------


def test_an_interrupt_keeps_the_names(notebook: Notebook) -> None:
    notebook.run("x = 1")
    reply = notebook.run(LOOP, output_hook=Interrupting(notebook, notebook.manager.interrupt_kernel))
    assert reply["ename"] == "KeyboardInterrupt"
    assert notebook.text("stderr") == ""
    notebook.run("x")
    assert notebook.messages[0][1]["data"] == {"text/plain": "1"}


def test_interrupts_that_are_not_heeded(notebook: Notebook) -> None:
    def press_twice() -> None:
        notebook.manager.interrupt_kernel()
        notebook.manager.interrupt_kernel()

    reply = notebook.run(STUBBORN, output_hook=Interrupting(notebook, press_twice))
    assert reply["ename"] == "KeyboardInterrupt"
    assert "its box was ended" in reply["evalue"]
    assert notebook.text("stderr") == ""
    assert notebook.run("1")["status"] == "ok"


def test_cells_that_wait_behind_one_that_fails_are_aborted(notebook: Notebook) -> None:
    """A cell that comes after its reply is not aborted."""
    client = notebook.client
    sent = [client.execute(code) for code in (LOOP, "1", "2", "3")]
    while client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
        pass
    notebook.manager.interrupt_kernel()
    replies = {}
    while replies.keys() != set(sent):  # a busy machine may have more than one reply of "ready"
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"]["msg_id"] in sent:
            replies[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
    assert [replies[each] for each in sent] == ["error", "aborted", "aborted", "aborted"]
    assert notebook.run("4")["status"] == "ok"


def test_sigint_is_an_interrupt(notebook: Notebook) -> None:
    """Ctrl-C in a terminal that a front end and its kernel share."""
    pid = notebook.manager.provisioner.process.pid
    os.kill(pid, signal.SIGINT)
    assert notebook.run("x = 1")["status"] == "ok"
    reply = notebook.run(LOOP, output_hook=Interrupting(notebook, lambda: os.kill(pid, signal.SIGINT)))
    assert reply["ename"] == "KeyboardInterrupt"
    assert notebook.run("x")["status"] == "ok"


def test_a_restart_forgets(notebook: Notebook) -> None:
    notebook.run("x = 1")
    notebook.manager.restart_kernel()
    notebook.client.wait_for_ready(timeout=60)
    assert notebook.run("x")["ename"] == "NameError"


@pytest.mark.parametrize("code", [STUBBORN, "print('begun', flush=True)\ninput()"])
def test_a_shutdown_while_a_cell_runs(code: str) -> None:
    with opened() as notebook:
        process = notebook.manager.provisioner.process
        notebook.client.execute(code, allow_stdin=True)
        while notebook.client.get_iopub_msg(timeout=200)["msg_type"] != "stream":
            pass
        notebook.client.shutdown()
        killer = threading.Timer(20, process.kill)
        killer.start()
        assert process.wait() == 0
        killer.cancel()


def test_the_end_while_a_box_is_started() -> None:
    """A restart during the start of a box does not wait for a cell that it could not end."""
    box = KernelBox(default_policy(), lambda size, echo: "")
    start = box._sandbox.session

    def start_and_close(**options: Any) -> Any:
        session = start(**options)
        box.close()
        return session

    box._sandbox.session = start_and_close  # type: ignore[method-assign]
    with pytest.raises(proxybox.SandboxClosedError):
        box.run(lambda session: session.exec("while True: pass"))
    assert not box.is_alive
    box.settle()


def test_no_interpreter_is_an_error_of_the_first_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXYBOX_GUEST", "/nowhere/pypy3")
    with opened() as notebook:
        reply = notebook.run("1")
        assert reply["ename"] == "SandboxStartError"
        assert "/nowhere/pypy3" in reply["evalue"]


# --- the notebook's folder --------------------------------------------------------------------------------------------


def test_the_folder_of_a_notebook_is_not_shown(shared: Notebook) -> None:
    shared.run("import os\nos.getcwd(), os.listdir('.')")
    assert shared.messages[0][1]["data"] == {"text/plain": "('/box', [])"}


def test_a_folder_that_was_asked_for(
    installed: Callable[..., str], tmp_path: Path, open_the_way: Callable[[Path], None]
) -> None:
    open_the_way(tmp_path)
    tmp_path.chmod(0o755)
    (tmp_path / "data.txt").write_text("content")
    with opened(installed("here", "--folder", "."), cwd=tmp_path) as notebook:
        notebook.run("print(open('data.txt').read())\nopen('data.txt', 'w').write('other')")
        assert notebook.text() == "content\n"
    assert (tmp_path / "data.txt").read_text() == "content"


def test_code_in_the_notebooks_folder(tmp_path: Path) -> None:
    """No file there is imported by the kernel, which is trusted."""
    mark = tmp_path / "ran"
    hostile = f"open({os.fspath(mark)!r}, 'w').close()\n"
    for name in (
        "proxybox.py", "click.py", "attr.py", "json.py", "zmq.py", "pygments.py", "ipykernel.py", "sitecustomize.py",
        "ipython_kernel_config.py", "ipython_config.py", "jupyter_config.py", "proxybox_kernel_config.py",
    ):  # fmt: skip
        (tmp_path / name).write_text(hostile)
    with opened(cwd=tmp_path) as notebook:
        assert notebook.run("1 / 0")["ename"] == "ZeroDivisionError"
        notebook.run("input()", allow_stdin=True, stdin_hook=answering(notebook, "x")[1])
    assert not mark.exists()


def test_nothing_is_left_at_home(jupyter: Path) -> None:
    assert list((jupyter / "ipython").rglob("*")) == []  # jupyter_client makes the folder itself
    spec = json.loads((jupyter / "data" / "kernels" / "proxybox" / "kernel.json").read_text())
    assert spec["argv"][1:3] == ["-P", "-m"]


def test_a_message_that_looks_like_a_line_of_a_traceback(shared: Notebook) -> None:
    text = 'x\n  File "a", line 1!'
    assert shared.run(f"raise Exception({text!r})")["ename"] == "Exception"


def test_cells_that_take_long_to_look_at(shared: Notebook) -> None:
    assert shared.run(" " * 200_000 + "1")["status"] in ("ok", "error")


def test_a_cell_that_is_too_large_to_cross(shared: Notebook) -> None:
    assert shared.run("x = '" + "a" * 3_000_000 + "'")["ename"] == "PolicyError"
    assert shared.run("1")["status"] == "ok"


def test_what_a_cell_wrote_and_did_not_close_is_there_for_the_next_one(shared: Notebook) -> None:
    assert shared.run("import json; json.dump({'a': 1}, open('r.json', 'w')); f = open('f', 'w'); f.write('abc')")
    assert shared.run("print(json.load(open('r.json')), open('f').read())")["status"] == "ok"
    assert shared.text() == "{'a': 1} abc\n"
    shared.run("import os; f.close(); os.remove('f'); os.remove('r.json')")  # other tests see the folder, too


def test_an_exception_without_a_text_is_told_by_what_it_means(shared: Notebook) -> None:
    reply = shared.run("bytearray(10**11)")
    assert reply["ename"] == "MemoryError"
    assert reply["evalue"] == "the memory limit of 1 GiB was reached: hold less at a time (limits.memory)"

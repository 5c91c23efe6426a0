"""`proxybox.run` and `Sandbox.run` with real boxes: code, arguments, input, files, output, callbacks, results."""

import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import Status

# --- code and arguments -----------------------------------------------------------------------------------------------


def test_code_runs_and_its_output_comes_back() -> None:
    result = proxybox.run("print(6 * 7)")
    assert (result.status, result.exit_code, result.signal) == (Status.OK, 0, None)
    assert (result.stdout, result.stderr, result.ok) == ("42\n", "", True)
    assert result.usage.calls > 50
    assert 0 < result.usage.start < result.usage.wall
    assert not result.files
    assert not result.denials


def test_a_path_is_a_script_and_a_text_is_code(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import helper, sys; print(helper.NAME, sys.argv, __file__)")
    (tmp_path / "helper.py").write_text("NAME = 'helper'")
    assert proxybox.run(script, ["a", "b c"]).stdout == "helper ['/box/program.py', 'a', 'b c'] /box/program.py\n"
    assert proxybox.run_file(str(script)).stdout.startswith("helper ")
    assert proxybox.run(str(script)).status is Status.SYNTAX_ERROR
    assert not (tmp_path / "__pycache__").exists()


def test_a_folder_with_a_main_and_an_archive(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text("print('folder')")
    assert proxybox.run(tmp_path / "app").stdout == "folder\n"
    import zipfile

    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", "print('archive')")
    assert proxybox.run(tmp_path / "app.pyz").stdout == "archive\n"


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        proxybox.run(tmp_path / "none.py")


@pytest.mark.parametrize("code", ["", "# nothing", "\n" * 1000, "é = 'ü'\nassert é", "# coding: latin-1\n"])
def test_any_text_is_code(code: str) -> None:
    assert proxybox.run(code).ok


def test_text_that_is_no_code() -> None:
    assert proxybox.run("\0").status is Status.SYNTAX_ERROR


def test_the_script_of_a_home_folder_comes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "script.py").write_text("import os; print(os.listdir('.'))")
    (tmp_path / "secret").write_text("x")
    assert proxybox.run(tmp_path / "script.py").stdout == "['script.py']\n"


def test_each_run_is_a_world_of_its_own() -> None:
    with proxybox.Sandbox() as box:
        assert box.run("open('/tmp/x', 'w').write('1'); open('y', 'w').write('2')").ok
        assert box.run("import os; print(os.path.exists('/tmp/x'), os.listdir('.'))").stdout == "False ['main.py']\n"
    with pytest.raises(proxybox.SandboxClosedError):
        box.run("1")


# --- standard input ---------------------------------------------------------------------------------------------------

READ = "import sys; data = sys.stdin.buffer.read(); print(len(data), data[:9])"


def pieces(*texts: str) -> Any:
    """A function that returns the texts one after another, and then the end."""
    left = list(texts)
    return lambda size: left.pop(0)[:size] if left else ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "0 b''"),
        ("", "0 b''"),
        ("text ü", "7 b'text \\xc3\\xbc'"),
        (b"\xff\x00", "2 b'\\xff\\x00'"),
        ("x" * 300_000, "300000 b'xxxxxxxxx'"),
        (io.StringIO("from a file"), "11 b'from a fi'"),
        (io.BytesIO(b"bytes"), "5 b'bytes'"),
        (pieces("one ", "two"), "7 b'one two'"),
    ],
    ids=["none", "empty", "text", "bytes", "much", "text file", "bytes file", "function"],
)
def test_forms_of_standard_input(given: Any, said: str) -> None:
    assert proxybox.run(READ, stdin=given).stdout == f"{said}\n"


def test_a_real_file_as_standard_input(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"line 1\nline 2\n")
    with open(tmp_path / "in", "rb") as file:
        assert proxybox.run("print(input(), '|', input())", stdin=file).stdout == "line 1 | line 2\n"


def test_a_pipe_as_standard_input_is_waited_for() -> None:
    reading, writing = os.pipe()

    def talk(text: str) -> None:
        if "ready" in text:
            os.write(writing, b"an answer\n")
            os.close(writing)

    with open(reading, "rb", buffering=0) as end:
        result = proxybox.run("print('ready', flush=True); print(input())", stdin=end, on_stdout=talk)
    assert result.stdout == "ready\nan answer\n"


def test_a_function_may_answer_what_was_printed() -> None:
    printed: list[str] = []

    def answer(size: int) -> str:
        return f"{printed[-1].split()[-1]} it is\n"

    code = "print('one', flush=True)\nprint(input())\nprint('two', flush=True)\nprint(input())"
    result = proxybox.run(code, stdin=answer, on_stdout=printed.append)
    assert result.stdout == "one\none it is\ntwo\ntwo it is\n"


def test_an_exception_of_the_callers_function_is_raised_and_the_box_gone() -> None:
    def fail(size: int) -> str:
        raise ZeroDivisionError("of the caller")

    with pytest.raises(ZeroDivisionError):
        proxybox.run("input()", stdin=fail)
    assert proxybox.run("print(1)").ok


def test_what_is_no_input() -> None:
    with pytest.raises(TypeError, match="stdin"):
        proxybox.run("1", stdin=5)  # type: ignore[arg-type]


# --- output -----------------------------------------------------------------------------------------------------------


def test_both_streams_and_their_order() -> None:
    code = "import sys\nfor n in range(3):\n print('out', n, flush=True)\n print('err', n, file=sys.stderr, flush=True)"
    result = proxybox.run(code)
    assert result.stdout == "out 0\nout 1\nout 2\n"
    assert result.stderr == "err 0\nerr 1\nerr 2\n"
    expected = [(f"std{stream}", f"{stream} {n}\n") for n in range(3) for stream in ("out", "err")]
    assert list(result.output) == expected


def test_callbacks_get_whole_characters_while_it_runs() -> None:
    out: list[str] = []
    err: list[str] = []
    code = (
        "import os\nfor b in 'aé🎉'.encode(): os.write(1, bytes([b]))\nos.write(2, b'bad \\xff')\nos.write(1, b'\\xc3')"
    )
    result = proxybox.run(code, on_stdout=out.append, on_stderr=err.append)
    assert out == ["a", "é", "🎉"]
    assert err == ["bad \\xff"]
    assert result.stdout_bytes == "aé🎉".encode() + b"\xc3"
    assert result.stdout == "aé🎉\\xc3"


def test_a_callback_runs_before_the_program_goes_on() -> None:
    seen: list[str] = []
    proxybox.run(
        "print('first', flush=True); input(); print('second', flush=True)",
        stdin=lambda size: f"{seen}\n",
        on_stdout=seen.append,
    )
    assert seen == ["first\n", "second\n"]


def test_an_exception_of_a_callback_ends_the_box() -> None:
    def fail(text: str) -> None:
        raise RuntimeError(text.strip())

    with pytest.raises(RuntimeError, match=r"^stop$"):
        proxybox.run("print('stop', flush=True)\nwhile True: pass", on_stdout=fail)


def test_an_interrupt_of_the_caller_ends_the_box() -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        proxybox.run("print('x', flush=True)\nwhile True: pass", on_stdout=interrupt)


# --- results ----------------------------------------------------------------------------------------------------------

ENDS = {
    "ok": ("pass", Status.OK, 0, None),
    "exit status": ("raise SystemExit(7)", Status.ERROR, 7, None),
    "exception": ("{}['x']", Status.ERROR, 1, None),
    "syntax": ("def", Status.SYNTAX_ERROR, 1, None),
    "syntax of something compiled": ("compile('def', 'x', 'exec')", Status.ERROR, 1, None),
    "indentation": ("  x\n y", Status.SYNTAX_ERROR, 1, None),
    "killed": ("import os; os.kill(os.getpid(), 9)", Status.CRASHED, None, 9),
    "aborted": ("import os; os.abort()", Status.CRASHED, None, 6),
    "crashed": ("import ctypes; ctypes.memset(8, 1, 1)", Status.CRASHED, None, 11),
}


@pytest.mark.parametrize(("code", "status", "exit_code", "signal"), ENDS.values(), ids=ENDS.keys())
def test_how_it_ended(code: str, status: Status, exit_code: int | None, signal: int | None) -> None:
    result = proxybox.run(code)
    assert (result.status, result.exit_code, result.signal) == (status, exit_code, signal), result.stderr


def test_the_exception_that_was_not_caught() -> None:
    result = proxybox.run("class Odd(Exception): pass\ndef f(): raise Odd('two\\nlines')\nf()")
    assert result.error is not None
    assert (result.error.type.rpartition(".")[2], result.error.message) == ("Odd", "two\nlines")
    assert 'File "/box/main.py", line 2, in f' in result.error.traceback
    assert result.error.traceback.startswith("Traceback (most recent call last):\n")


def test_check_raises_what_fits() -> None:
    proxybox.run("pass", check=True)
    with pytest.raises(proxybox.ExecutionError) as caught:
        proxybox.run("raise ValueError('no')", check=True)
    assert caught.value.result.status is Status.ERROR
    assert "ValueError: no" in str(caught.value)
    with pytest.raises(proxybox.TimeLimitExceeded):
        proxybox.run("while True: pass", timeout=0.3, check=True)
    with pytest.raises(proxybox.MemoryLimitExceeded):
        proxybox.run("bytearray(10**10)", check=True)
    with pytest.raises(proxybox.OutputLimitExceeded):
        proxybox.run("print('x' * 100)", output={"limit": 10, "on_excess": "end"}, check=True)
    with pytest.raises(proxybox.CallDenied):
        proxybox.run("import os; os.fork()", on_denied="end", check=True)
    with pytest.raises(proxybox.DiskLimitExceeded):
        proxybox.run("open('x', 'wb').write(bytes(10**6))", limits={"disk": "100K"}, check=True)


def test_the_result_after_atexit_and_joins() -> None:
    code = """
import atexit, threading, time
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
print("main")
"""
    assert proxybox.run(code).stdout == "main\nthread\nat exit\n"


def test_a_result_as_json() -> None:
    result = proxybox.run("open('a', 'w').write('text'); open('b', 'wb').write(b'\\xff'); import os; os.fork()")
    told = json.loads(json.dumps(result.to_dict()))
    assert told["status"] == "error"
    assert told["error"]["type"] == "PermissionError"
    assert [(file["path"], file["kind"], file["text"]) for file in told["files"]] == [
        ("a", "added", "text"),
        ("b", "added", None),
    ]
    assert told["denials"] == [{"call": "clone", "errno": "EPERM", "reason": "fork is refused", "count": 1}]
    assert result.summary() == "error (PermissionError: [Errno 1] Operation not permitted)"


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_in_and_out() -> None:
    code = """
import os
print(open("data/in.txt").read(), sorted(os.listdir(".")), open("raw", "rb").read())
os.makedirs("results/deep")
open("results/deep/out.bin", "wb").write(b"\\x00\\xff")
open("data/in.txt", "a").write(" and more")
os.remove("raw")
"""
    result = proxybox.run(code, files={"data/in.txt": "text ü", "raw": b"\xfe"})
    assert result.stdout == "text ü ['data', 'main.py', 'raw'] b'\\xfe'\n"
    assert dict(result.files) == {"results/deep/out.bin": b"\x00\xff", "data/in.txt": "text ü and more".encode()}
    assert result.ok


def test_a_module_given_as_a_file() -> None:
    assert proxybox.run("from pack.mod import x; print(x)", files={"pack/mod.py": "x = 5"}).stdout == "5\n"


def test_changes_of_a_folder_stay_in_the_result(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import os\nopen('kept', 'a').write('+')\nos.remove('lost')\nos.rename('old', 'new')\nopen('added', 'w')"
    )
    for name in ("kept", "lost", "old", "same"):
        (tmp_path / name).write_text(name)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    result = proxybox.run(tmp_path / "script.py")
    assert result.ok, result.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    kinds = {change.name: change.kind for change in result.files.changes}
    assert kinds["kept"] == "modified"
    assert kinds["lost"] == "deleted"
    assert kinds["added"] == "added"
    assert kinds.keys() >= {"new"}
    assert "same" not in kinds
    assert result.files["kept"] == b"kept+"
    assert result.files["new"] == b"old"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "nul\0", "main.py"])
def test_names_of_files_that_are_none(name: str) -> None:
    with pytest.raises(proxybox.PolicyError, match="files"):
        proxybox.run("pass", files={name: "x"})


# --- callers ----------------------------------------------------------------------------------------------------------


def test_one_sandbox_from_many_short_threads() -> None:
    said: dict[int, str] = {}
    with proxybox.Sandbox() as box:

        def run(number: int) -> None:
            said[number] = box.run(f"print({number})").stdout

        for start in range(0, 12, 4):
            threads = [threading.Thread(target=run, args=(start + n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert said == {number: f"{number}\n" for number in range(12)}


def test_the_thread_that_started_the_first_box_may_end() -> None:
    first = threading.Thread(target=proxybox.run, args=("pass",))
    first.start()
    first.join()
    results = []
    second = threading.Thread(target=lambda: results.append(proxybox.run("import time; time.sleep(0.2); print(1)")))
    second.start()
    third = threading.Thread(target=lambda: results.append(proxybox.run("print(1)")))
    third.start()
    second.join()
    third.join()
    assert [result.stdout for result in results] == ["1\n", "1\n"]


@pytest.fixture
def script() -> Any:
    """Runs a caller's program in a process of its own, and returns its output."""
    import subprocess
    import sys

    def run(code: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "caller.py")
            path.write_text(code)
            done = subprocess.run(
                # Python 3.12 and newer warn when a process with threads forks. The watchdog is a thread.
                [sys.executable, "-W", "ignore::DeprecationWarning", path],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        assert done.stderr == ""
        assert done.returncode == 0
        return done.stdout

    return run


def test_a_caller_that_forks(script: Any) -> None:
    """As gunicorn does: the parent has used boxes before, and the children use them, too."""
    code = """
import os, sys, proxybox
print(proxybox.run("print('parent')").stdout, end="", flush=True)
for n in range(3):
    pid = os.fork()
    if not pid:
        print(proxybox.run(f"print('child', {n})").stdout, end="", flush=True)
        os._exit(n)
    print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
print(proxybox.run("print('parent again')").stdout, end="")
"""
    assert script(code).split("\n") == [
        "parent", "child 0", "status 0", "child 1", "status 1", "child 2", "status 2", "parent again", "",
    ]  # fmt: skip


def test_a_caller_that_waits_for_any_child(script: Any) -> None:
    """waitpid(-1) in another thread takes the child's status away. Then the guest's own report counts."""
    code = """
import os, threading, time, proxybox
stop = False
def reap():
    while not stop:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.0005)
thread = threading.Thread(target=reap)
thread.start()
for n in range(10):
    result = proxybox.run(f"print({n}); raise SystemExit({n})")
    print(result.exit_code, result.stdout.strip())
stop = True
thread.join()
"""
    assert script(code) == "".join(f"{n} {n}\n" for n in range(10))


def test_a_caller_that_ignores_children(script: Any) -> None:
    code = """
import signal, proxybox
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for n in range(3):
    result = proxybox.run(f"print({n}); raise SystemExit({n})")
    print(result.exit_code, result.stdout.strip())
"""
    assert script(code) == "0 0\n1 1\n2 2\n"


def test_a_caller_without_standard_streams(script: Any) -> None:
    code = """
import os, proxybox
for fd in (0, 1, 2):
    os.close(fd)
result = proxybox.run("import sys; print('out'); print('err', file=sys.stderr); raise SystemExit(5)")
assert (result.stdout, result.stderr, result.exit_code) == ("out\\n", "err\\n", 5), result
"""
    assert script(code) == ""


def test_nothing_is_left_behind(script: Any) -> None:
    """A run leaves no descriptor, child or thread, and changes neither the caller's affinity nor its signal mask."""
    code = """
import os, signal, threading, proxybox
def state():
    return (len(os.listdir("/proc/self/fd")), threading.active_count(), os.sched_getaffinity(0),
            signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getcwd(), os.umask(0o22))
proxybox.run("pass")
before = state()
for n in range(5):
    proxybox.run("import threading; threading.Thread(target=print).start(); open('x', 'w')")
    proxybox.run("while True: pass", timeout=0.1)
assert state() == before, (state(), before)
try:
    while True:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        assert pid == 0, pid
        break
except ChildProcessError:
    pass
"""
    assert script(code) == ""


def test_importing_loads_little(script: Any) -> None:
    code = """
import sys, proxybox
assert not [name for name in sys.modules if name.split(".")[0] in ("click", "rich", "tomllib", "cattrs", "asyncio")]
proxybox.run("pass", limits={"wall_time": 5})
print([name for name in sys.modules if name.split(".")[0] in ("click", "rich", "tomllib", "cattrs", "asyncio")])
"""
    assert script(code) == "[]\n"


def test_a_result_is_shown_on_one_short_line() -> None:
    shown = repr(proxybox.run("import sys; print('x' * 500_000); print('\\033[2J' * 1000, file=sys.stderr)"))
    assert not {"\n", "\033"} & set(shown)
    assert len(shown) < 600
    assert shown.startswith("<Result: ok, stdout 'xxxxx")
    assert "(500,001 bytes)" in shown
    shown = repr(proxybox.run("raise ValueError('long\\n' * 5000)"))
    assert shown.startswith("<Result: error (ValueError: long")
    assert "\n" not in shown
    assert len(shown) < 600
    shown = repr(proxybox.run("for n in range(50): open(f'a{n}', 'w').close()").files)
    assert shown.startswith("<Files: added a0, ")
    assert shown.endswith("and 40 more>")


def test_star_imports_everything_without_anyio() -> None:
    code = (
        "import sys\nsys.modules['anyio'] = None\nfrom proxybox import *\nimport proxybox\n"
        "print(Sandbox.__name__, run.__name__, 'AsyncPool' in globals())\n"
        "try: proxybox.AsyncSandbox\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "Sandbox run False"
    assert "pip install 'proxybox[async]'" in lines[1]
    assert {"AsyncPool", "AsyncSandbox", "AsyncSession", "__version__"} <= set(proxybox.__all__)


def test_a_name_that_is_also_one_of_pythons_does_not_hide_it_in_the_package() -> None:
    # from now on it is a name in the package, but the package's own code still uses the built-in one
    assert proxybox.map is not map
    assert "map" not in proxybox.__all__
    assert "map" in dir(proxybox)


@pytest.mark.parametrize("warm", [False, True])
def test_a_script_that_the_policy_hides_is_told_with_what_to_do(tmp_path: Path, warm: bool) -> None:
    script = tmp_path / ".program.py"
    script.write_text("print('seen')")
    script.chmod(0o644)
    tmp_path.chmod(0o755)
    words = r"'.program.py' begins with a dot, and the policy hides .* \(filesystem.hide_dotfiles = false\)"
    with proxybox.Sandbox(warm=warm) as box, proxybox.Pool(size=1) as pool:
        for run in (box.run, box.run, pool.run):
            with pytest.raises(proxybox.PolicyError, match=words):
                run(script)


def test_a_script_that_is_a_pipe_is_read() -> None:
    inside, outside = os.pipe()
    with open(inside, "rb"), open(outside, "wb") as end:
        end.write(b"import sys; print(sys.argv)")
        end.flush()
        end.close()
        result = proxybox.run(Path(f"/dev/fd/{inside}"), args=["a"])
    assert result.stdout == "['/box/main.py', 'a']\n"


def test_a_result_equals_one_that_was_sent_elsewhere() -> None:
    """A pool's processes send results, and callers may store them: all their parts compare by value."""
    result = proxybox.run("open('made', 'w').write('1'); print(1); open('/etc/passwd', 'w')")
    assert pickle.loads(pickle.dumps(result)) == result
    assert proxybox.run("print(2)") != result


def test_a_process_with_little_address_space_is_told_so() -> None:
    """Its boxes inherit the limit, and an interpreter without enough memory would end without an error."""
    code = "import proxybox\ntry: proxybox.run('1')\nexcept proxybox.SandboxStartError as error: print(error)"
    line = 'ulimit -v 400000; exec "$0" -P -c "$1"'
    done = subprocess.run(["sh", "-c", line, sys.executable, code], capture_output=True, text=True, check=False)
    assert "may have 390 MiB of memory (ulimit -v), which is too little for it" in done.stdout, done

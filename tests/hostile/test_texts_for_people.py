"""Texts of a guest in proxybox's own output: names of files, errors, refusals, traces, JSON.

Unescaped, they could make a terminal set its title, answer, or hide earlier output. The tests check each byte of the
commands' output. JSON must stay one object, and a trace one line for each call.
"""

import json
import os
import re
import subprocess
import sys

import pytest

import proxybox

#: OSC 0 sets the title, OSC 52 the clipboard. Also C1 controls, characters that reorder text, line ends and keys.
EVIL = "\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1b[2J\x1b[6n\x9b2J\x9d0;x\x9c\u202eevil\u2066\r\x08\x7f"
#: Control characters that no line of proxybox may contain.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

PROGRAM = f"""
import os, socket, sys
evil = {EVIL!r}
name = evil.replace("/", "_")
for make in (lambda: open("/box/" + name, "w").close(), lambda: os.mkdir("/box/d" + name), lambda: os.symlink(name, "/box/l" + name),
             lambda: os.mkdir("/usr/lib/" + name), lambda: open("/usr/lib/" + name, "w"), lambda: os.rename("/box/main.py", "/etc/" + name),
             lambda: os.unlink("/box/input" + name), lambda: os.mknod("/box/n" + name, 0o020666), lambda: os.setxattr("/box/main.py", "security." + name, b"x"),
             lambda: socket.socket(), lambda: os.execv("/bin/" + name, [name]), lambda: os.chown("/box/main.py", 0, 0)):
    try: make()
    except OSError: pass
import ctypes; ctypes.CDLL(None).prctl(15, evil.encode()[:15], 0, 0, 0)
import raw; raw.ask(0x7777)
class E(Exception): pass
E.__name__ = E.__qualname__ = "E" + evil
raise E(evil + "\\nproxybox: ok, exit status 0\\n")
"""


@pytest.fixture
def script(hostile, tmp_path):
    for name, text in {**hostile.files, "main.py": PROGRAM}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / ("input" + EVIL)).write_text("x")
    return tmp_path / "main.py"


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "proxybox.cli", *map(str, arguments)], capture_output=True, timeout=60, **options
    )


def of_proxybox(text):
    """The lines that proxybox itself has written."""
    return [line for line in text.split("\n") if line.startswith("proxybox:")]


def test_a_verbose_run(script):
    done = command("run", "-v", script)
    said = of_proxybox(done.stderr.decode("utf-8", "surrogateescape"))
    assert any("added" in line for line in said), done.stderr
    assert any("deleted" in line for line in said)
    assert any("refused" in line for line in said)
    assert [line for line in said if CONTROLS.search(line)] == []


def test_a_verbose_run_at_a_terminal(script):
    """At a terminal the program's own output is escaped, too."""
    import pexpect

    child = pexpect.spawn(sys.executable, ["-m", "proxybox.cli", "run", "-v", str(script)], timeout=60)
    text = child.read().decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    child.close()
    assert "added" in text and "Traceback" in text
    for line in text.split("\n"):
        # Only colours of proxybox may begin with ESC, and a carriage return is the program's.
        assert not CONTROLS.search(re.sub("\x1b\\[[0-9;]*m|\r", "", line)), ascii(line)


def test_results_for_people(hostile):
    """summary() is one line, and no repr() or str() of a Result's parts contains a control character."""
    result = hostile.run(PROGRAM)
    assert result.status == "error", result
    texts = [result.summary(), repr(result.files), repr(result), repr(result.denials), *map(str, result.files.changes)]
    with pytest.raises(proxybox.ExecutionError) as raised:
        result.check()
    texts += [str(raised.value), repr(raised.value)]
    assert [text for text in texts if CONTROLS.search(text)] == []
    assert "\n" not in result.summary()


@pytest.mark.parametrize("options", [["--json"], ["--json", "--set", "output.escapes=raw"]])
def test_json_of_a_run(script, options):
    done = command("run", *options, script)
    assert done.stdout.isascii()
    seen = json.loads(done.stdout)
    assert seen["status"] == "error" and seen["exit_code"] == 1
    assert not re.search(rb"[^ -~\n]", done.stdout)


def test_json_of_bytes_that_are_no_text(script):
    script.write_text(
        "import os, sys\nsys.stdout.buffer.write(bytes(range(256)) * 10)\nopen(b'/box/\\xff\\xfe\\xed\\xa0\\x80', 'wb').write(bytes(range(256)))\n"
        "os.symlink(b'\\xff' * 200, b'/box/\\xc0\\xaf')\nraise Exception('\\ud800\\udfff')"
    )
    done = command("run", "--json", script)
    assert json.loads(done.stdout)["status"] == "error", done
    assert not re.search(rb"[^ -~\n]", done.stdout)


@pytest.mark.parametrize(
    "options", [[], ["--denied"], ["--json"], ["--summary"], ["--summary", "--json"], ["--family", "paths"]]
)
def test_a_trace(script, tmp_path, options):
    """One line for each call, in printable ASCII, whatever the arguments are."""
    done = command("trace", *options, "--output", tmp_path / "trace", script)
    assert done.returncode == 1, done.stderr
    trace = (tmp_path / "trace").read_bytes()
    assert len(trace) > 50
    assert not re.search(rb"[^ -~\n]", trace)
    if "--json" in options:
        rows = [json.loads(line) for line in trace.splitlines()]
        assert rows
    elif not options:
        lines = trace.decode().splitlines()
        assert sum("mkdir(" in line for line in lines) >= 2
        assert all(re.match(r"\w+\(", line) for line in lines if line)


def test_a_trace_of_calls_that_no_program_makes(hostile, script, tmp_path):
    """Arguments of every size and kind, by machine code."""
    script.write_text(
        """
import raw
page, path = raw.code(bytes(range(256)) * 16), raw.code(bytes(range(1, 256)) * 16)
long = raw.code(b"\\x1b" * 5000)
for number in [*range(3, 9), *range(13, 24), *range(25, 28), *range(29, 56), *range(62, 200), *range(232, 335), *range(424, 450)]:
    for arguments in ((0,) * 6, (-1,) * 6, (path, page, 10, page, path, 7), (long, long, 100, 1, 2, 3), (1, path, 255, page, 1 << 31, 1 << 63), (-100, path, page, 4095, 0, 0)):
        if number in (34, 61, 130, 128, 7, 23, 35, 230, 270, 271, 281, 232, 247, 0, 16): continue
        raw.syscall(number, *arguments)
"""
    )
    for options in ([], ["--json"]):
        done = command("trace", *options, "--timeout", "20", "--output", tmp_path / "trace", script)
        assert b"a fault of proxybox's own" not in done.stderr, done.stderr
        trace = (tmp_path / "trace").read_bytes()
        assert trace.count(b"\n") > 500
        assert not re.search(rb"[^ -~\n]", trace)


def test_a_guest_that_claims_to_be_proxybox(script):
    """Lines on standard error that look like proxybox's are the program's, but the exit status cannot be forged."""
    script.write_text("import sys\nsys.stderr.write('proxybox: ok, exit status 0\\n')\nsys.exit(3)")
    assert command("run", script).returncode == 3
    script.write_text('print(\'{"status": "ok"}\'); import os; os.abort()')
    seen = json.loads(command("run", "--json", script).stdout)
    assert (seen["status"], seen["signal"]) == ("crashed", 6)


# --- what a caller hands over -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/evil",
        "a/../../evil",
        "a/./b",
        "",
        "a//b",
        "a/",
        "..",
        ".",
        "a\0b",
        "main.py",
        "/proc/self/mem",
        "a/..",
    ],
)
def test_names_of_files_that_lead_elsewhere(name):
    with pytest.raises(proxybox.PolicyError):
        proxybox.run("1", files={name: "x"})


SHADOWS = {
    "sitecustomize.py": "print('sitecustomize ran'); import os; os.mkdir('/box/ran')",
    "usercustomize.py": "print('usercustomize ran')",
    "encodings/__init__.py": "raise SystemExit('encodings')",
    "os.py": "raise SystemExit('os')",
    "site.py": "raise SystemExit('site')",
    "evil.pth": "import os; os.mkdir('/box/ran-by-pth')",
    "pyvenv.cfg": "home = /tmp",
    "proxybox/__init__.py": "raise SystemExit('proxybox')",
    "conftest.py": "raise SystemExit('conftest')",
    "__pycache__/main.cpython-311.pyc": "\0" * 100,
    "-c": "x",
    "\x1b]0;owned\x07": "x",
    "a" * 250: "x",
    "d/" * 60 + "deep": "x",
    "%s%n{0.__class__}": "x",
    "lib.so": "\x7fELF" + "\0" * 500,
}


@pytest.mark.parametrize("name", SHADOWS)
def test_files_that_are_named_like_others(hostile, outside, name):
    """They are files in the box and run only there. The controller imports and executes none of them."""
    result = hostile.run(f"print({outside.reach}, {outside.python})", files={name: SHADOWS[name]}, timeout=100)
    assert result.status in ("ok", "error"), result
    assert not result.ok or "[] []" in result.stdout, result
    assert not os.path.exists("/box") and name not in sys.modules


@pytest.fixture
def libraries():
    """Closes the folders of packages that this test has opened for later boxes."""
    from proxybox.controller.vfs.host import library

    before = set(library._libraries)
    yield
    for key in set(library._libraries) - before:
        library._libraries.pop(key).host.close()


@pytest.mark.usefixtures("libraries")
def test_a_package_that_is_hostile(hostile, outside, tmp_path):
    """A package with links that lead out, FIFOs, and code at import and installation runs in the box, or not at all."""
    package = tmp_path / "site" / "evil"
    package.mkdir(parents=True)
    text = f"import sys; sys.path.append('/box')\nresult = ({outside.reach}, {outside.python})\n"
    (package / "__init__.py").write_text(text)
    (package.parent / "evil.pth").write_text(f"import os; os.mkdir({str(outside.folder / 'by pth')!r})")
    (package.parent / "setup.py").write_text(f"import os; os.mkdir({str(outside.folder / 'by setup')!r})")
    (package.parent / "sitecustomize.py").write_text(
        f"import os; os.mkdir({str(outside.folder / 'by sitecustomize')!r})"
    )
    (package / "out").symlink_to(outside.folder)
    (package / "root").symlink_to("/")
    os.mkfifo(package / "fifo.py")
    for each in (tmp_path, package.parent, package):
        each.chmod(0o755)
    with proxybox.Sandbox(packages=[package.parent]) as box:
        result = box.run(
            """
import evil, os
print(evil.result)
for way in ("out/file", "root/etc/shadow", "root/root/.profile", "fifo.py"):
    try: print(open(os.path.dirname(evil.__file__) + "/" + way).read(100))
    except OSError: print("no")
try: from evil import fifo
except ImportError: print("no")
""",
            files=hostile.files,
            timeout=100,
        )
    assert result.stdout == "([], [])\nno\nno\nno\nno\nno\n", result.summary() + result.stdout + result.stderr
    assert "evil" not in sys.modules


def test_a_script_folder_that_is_hostile(hostile, outside, tmp_path):
    """The whole folder of a script is mounted: links out of it are not followed, and nothing of it runs in the
    controller.
    """
    (tmp_path / "main.py").write_text(
        "import os\nfor name in ('out/file', 'up', 'fifo'):\n    try: print(open(name).read())\n    except OSError: print('no')"
    )
    (tmp_path / "out").symlink_to(outside.folder)
    (tmp_path / "up").symlink_to(outside.folder / "file")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "sitecustomize.py").write_text("import os; os.mkdir('customized')")
    (tmp_path / "policy.toml").write_text("this is no TOML \x1b]0;owned\x07")
    result = proxybox.run(tmp_path / "main.py", timeout=100)
    assert result.stdout == "no\nno\nno\n", result

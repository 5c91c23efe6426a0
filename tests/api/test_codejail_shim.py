"""proxybox.shims.codejail instead of codejail.safe_exec: its names, its arguments, and what it refuses."""

import io
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxybox
from proxybox import PolicyError
from proxybox.policies import evolve, preset
from proxybox.shims import codejail
from proxybox.shims.codejail import SafeExecException, json_safe, safe_exec


@pytest.fixture(scope="module", autouse=True)
def configured() -> Iterator[None]:
    policy = evolve(preset("codejail"), limits={"wall_time": 100, "cpu_time": 2})
    codejail.configure(policy, overrides={"short": {"cpu_time": 0.2}})
    yield
    codejail.configure()


def test_variables_are_changed_in_place() -> None:
    variables = {"x": 16, "kept": "é", "seen": [1]}
    assert safe_exec("x = x + 1\nseen.append(2)\nprint('hidden')\nf = lambda: 1", variables) is None
    assert variables == {"x": 17, "kept": "é", "seen": [1, 2]}


def test_a_failure_leaves_them_and_tells_its_traceback() -> None:
    variables = {"x": 16}
    with pytest.raises(SafeExecException, match=r"ValueError: soup\\n' with status code: 1\Z"):
        safe_exec("x = 1\nraise ValueError('soup')", variables)
    assert variables == {"x": 16}


def test_files_and_folders_are_copied(tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("Hello")
    library = tmp_path / "pylib"
    (library / "inner").mkdir(parents=True)
    (library / "module.py").write_text("const = 42")
    (library / "inner" / "data").write_bytes(b"\xff")
    (library / "link").symlink_to("/etc/passwd")
    variables: dict = {}
    code = "import module, os\na = open('hello.txt').read(), module.const, sorted(os.listdir('pylib')), also"
    safe_exec(
        f"also = open('also.dat', 'rb').read().hex()\n{code}", variables, files=[str(tmp_path / "hello.txt")],
        python_path=[f"{library}/"], extra_files=[("also.dat", b"\x01\xff")], slug="a problem",
    )  # fmt: skip
    assert variables["a"] == ["Hello", 42, ["inner", "module.py"], "01ff"]


def test_an_archive_among_the_extra_files_is_imported_from() -> None:
    content, variables = io.BytesIO(), {}
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("zipped.py", "def double(x): return 2 * x")
    safe_exec(
        "import zipped\na = zipped.double(21)", variables, python_path=["code.zip"],
        extra_files=[("code.zip", content.getvalue())],
    )  # fmt: skip
    assert variables == {"a": 42}


@pytest.mark.parametrize("name", ["../up", "a/b", "/etc/passwd", "", ".", "..", "tmp"])
def test_names_of_extra_files_have_no_folder(name: str) -> None:
    with pytest.raises(ValueError, match="want names without folders"):
        safe_exec("", {}, extra_files=[(name, b"")])


def test_what_is_no_file_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    for path in (tmp_path / "link", Path("/dev/null")):
        with pytest.raises(ValueError, match="want a file or a folder"):
            safe_exec("", {}, files=[str(path)])


@pytest.mark.full
def test_limits_of_a_context() -> None:
    code = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\ndone = 1"
    with pytest.raises(SafeExecException, match="with status code: -9"):
        safe_exec(code, {}, limit_overrides_context="short")
    for context in (None, "another"):
        variables: dict = {}
        safe_exec(code, variables, limit_overrides_context=context)
        assert variables["done"] == 1


def test_settings_that_make_no_sense_leave_the_ones_before() -> None:
    for options in ({"policy": "codejial"}, {"overrides": {"x": {"wall": 1}}}):
        with pytest.raises(PolicyError):
            codejail.configure(**options)
    variables: dict = {}
    safe_exec("a = 1", variables)
    assert variables == {"a": 1}


def test_not_safe_exec_is_refused() -> None:
    ran: dict = {"here": []}
    with pytest.raises(SafeExecException, match="code runs in a box, or not at all"):
        codejail.not_safe_exec("here.append(1)", ran)
    assert ran == {"here": []}
    assert not hasattr(codejail, "ALWAYS_BE_UNSAFE")


def test_json_safe() -> None:
    class Odd(dict):
        def items(self) -> None:  # type: ignore[override]
            raise RuntimeError

    given = {
        1: b"a", "b": [(1, b"c")], "lost": b"\xff", "odd": Odd(), b"\xff": 1, "__builtins__": {}, "object": object(),
        "deep": {2: (None, 1.5)}, "unsafe": {"in": object()},
    }  # fmt: skip
    assert json_safe(given) == {"1": "a", "b": [[1, "c"]], "deep": {"2": [None, 1.5]}}


def test_it_takes_the_place_of_codejail(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("codejail")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "codejail", package)
    monkeypatch.setitem(sys.modules, "codejail.safe_exec", types.ModuleType("codejail.safe_exec"))
    codejail.install()
    from codejail.safe_exec import safe_exec as found  # type: ignore[import-not-found]

    assert found is safe_exec
    assert package.safe_exec is codejail  # type: ignore[attr-defined]


def test_the_preset_keeps_the_code_to_its_own_folder() -> None:
    """It can make nothing in other folders, whether or not codejail's own program has hidden them."""
    code = """
import os
for place in ("/tmp", "/etc", "/sys", "/"):
    try:
        open(os.path.join(place, "made"), "w")
        print("made something in", place)
    except OSError:
        pass
    if place != "/":
        os.chmod(place, 0o755)
        print(os.listdir(place))
"""
    with proxybox.Sandbox("codejail") as box:
        assert box.run(code).stdout == "[]\n" * 3

"""The process that reads strangers' files: what ends it, and hosts without Landlock or seccomp."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxybox.errors import PackagesError
from proxybox.packages import child, helper

#: A program that refuses seccomp(2) and Landlock from then on, as a container's filter may.
WITHOUT = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
lines = (0x20, 0, 0, 0), (0x15, 1, 0, 317), (0x15, 0, 1, 444), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)
code = b"".join(struct.pack("=HBBI", *line) for line in lines)
class Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))
assert libc.syscall(317, 1, 0, ctypes.byref(Filter(5, code))) == 0
os.execv(sys.executable, [sys.executable, "-I", *sys.argv[1:]])
"""


@pytest.mark.parametrize("unconfined", [False, True])
def test_where_nothing_confines_it(tmp_path: Path, unconfined: bool) -> None:
    task = {
        "path": sys.path, "folder": str(tmp_path), "environment": {}, "reads": [], "writes": [],
        "unconfined": unconfined, "program": "/bin/echo", "arguments": ["started"],
    }  # fmt: skip
    words = [sys.executable, "-c", WITHOUT, child.__file__]
    done = subprocess.run(words, input=json.dumps(task), capture_output=True, text=True, check=False, timeout=60)
    if unconfined:
        assert (done.stdout, done.returncode) == ("started\n", 0), done
    else:
        assert (done.stdout, done.returncode) == ("", 1)
        assert "allows neither Landlock nor seccomp" in done.stderr
        assert "PROXYBOX_INSTALL_UNCONFINED=1" in done.stderr


@pytest.fixture
def work(tmp_path: Path) -> str:
    for name in ("empty", "out"):
        (tmp_path / name).mkdir()
    return str(tmp_path)


def sh(work: str, program: str) -> None:
    """Runs a shell in place of uv."""
    task = {"program": "/bin/sh", "arguments": ["-c", program]}
    helper.work_on(task, work, environment={"HOST": "host"}, writes=[f"{work}/out"])


def test_it_can_start_nothing_and_sees_nothing(work: str) -> None:
    secret = Path(work, "secret")
    secret.write_text("text")
    with pytest.raises(PackagesError, match="true: Permission denied"):
        sh(work, "/bin/true || exit 1")
    with pytest.raises(PackagesError, match="secret: Permission denied"):
        sh(work, f"read x <{secret}")
    with pytest.raises(PackagesError, match="Permission denied"):
        sh(work, f": >{work}/new")
    sh(work, f'echo "$HOST $HOME $PWD" >{work}/out/told; for x in *; do echo $x >>{work}/out/told; done')
    assert Path(work, "out/told").read_text() == f"host {work}/empty {work}/empty\n*\n"


def test_its_last_words_are_told(work: str) -> None:
    with pytest.raises(PackagesError, match=r"^last words$"):
        sh(work, "echo last words >&2; exit 3")
    with pytest.raises(PackagesError, match=r"^exit status 3$"):
        sh(work, "exit 3")


def test_what_takes_too_much_of_the_disk_is_ended(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "_EACH", 0.05)
    monkeypatch.setattr(helper, "_MOST_BYTES", 1 << 20)
    with pytest.raises(PackagesError, match="they take more than"):
        sh(work, f"while :; do echo {'x' * 1000}; done >{work}/out/file")
    monkeypatch.setattr(helper, "_MOST_BYTES", 1 << 40)
    monkeypatch.setattr(helper, "_MOST_FILES", 100)
    with pytest.raises(PackagesError, match="they take more than"):
        sh(work, f"while :; do n=x$n; : >{work}/out/$n; done")


def test_what_does_not_end_is_ended(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "_EACH", 0.05)
    monkeypatch.setattr(helper, "_SECONDS", 0.1)
    with pytest.raises(PackagesError, match="ended after"):
        sh(work, "while :; do :; done")


@pytest.mark.parametrize(
    "seen", ["echo []", "echo no", "echo 1", "printf '%70000d' 1", "while :; do printf xxxxxxxx; done"]
)
def test_one_that_tells_something_else_is_ended(work: str, seen: str) -> None:
    """A wheel may have taken the process over."""
    with pytest.raises(PackagesError, match="something else than how far it is"):
        sh(work, seen)


def test_its_last_words_do_not_act_on_a_terminal(work: str) -> None:
    with pytest.raises(PackagesError) as caught:
        sh(work, r"printf '\033]0;title\007' >&2; exit 1")
    assert str(caught.value).isprintable()


def test_folders_that_hide_what_is_in_them_are_refused(work: str) -> None:
    if os.geteuid() == 0:
        pytest.skip("root looks into each folder")
    os.mkdir(f"{work}/out/hidden", 0)
    with pytest.raises(PackagesError, match="cannot be looked into"):
        sh(work, "exit 0")


def test_its_bounds(work: str) -> None:
    """Otherwise an endless answer of an index would fill all memory of the host."""
    sh(work, "ulimit -v >out; ulimit -c >>out".replace("out", f"{work}/out/bounds"))
    assert Path(work, "out/bounds").read_text().split() == [str(3 << 20), "0"]


def test_it_reads_no_private_key_and_no_folder_of_scripts(work: str, tmp_path: Path) -> None:
    """Folders of certificates may contain keys, and sys.path may begin with a folder in somebody's home."""
    (tmp_path / "module.py").touch()
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from proxybox.packages import child, fetching\n"
        "def read(task):\n"
        "    for path in ('/etc/ssl/private', '/etc/pki/tls/private', sys.path[0] + '/module.py'):\n"
        "        try: open(path)\n"
        "        except (PermissionError, FileNotFoundError) as error: print(type(error).__name__)\n"
        "        else: print('read', path)\n"
        "fetching.fetch = read\n"
        "child.main()\n"
    )
    task = {"path": [str(tmp_path), *sys.path], "folder": f"{work}/empty", "environment": {}, "reads": [], "writes": []}
    words = [sys.executable, "-c", program]
    done = subprocess.run(
        words, input=json.dumps({**task, "unconfined": False}), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.splitlines()[-1:] == ["PermissionError"], done
    assert "read" not in done.stdout

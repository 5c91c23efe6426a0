"""The small commands print, change and return the same as the host's own commands, where both run."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxybox
from proxybox.program import Program

SOURCE = (Path(proxybox.__file__).parent / "guest/utilities.py").read_text()
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@pytest.fixture(scope="module")
def box() -> Iterator[proxybox.Sandbox]:
    policy = {"filesystem": {"box": "rw", "hide_dotfiles": False}, "environment": {"user": "ada"}}
    with proxybox.Sandbox(**policy, limits={"wall_time": 120, "cpu_time": 60}) as made:
        yield made


def fill(folder: Path) -> None:
    folder.mkdir()
    (folder / "full/deep/er").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "full/deep/a").write_bytes(b"a")
    (folder / "text").write_text("one two\nthree\n\n  caf\u00e9 ")
    (folder / ".hidden").write_text("")
    (folder / "-dash").write_text("d")
    os.symlink("text", folder / "link")
    os.chmod(folder / "text", 0o640)


def tree(folder: Path) -> dict[str, tuple[str, str]]:
    found = {}
    for each in sorted(folder.rglob("*")):
        is_readable = each.is_file() and os.access(each, os.R_OK)
        content = os.readlink(each) if each.is_symlink() else each.read_text() if is_readable else ""
        found[str(each.relative_to(folder))] = (oct(each.lstat().st_mode), content)
    return found


def run(box: proxybox.Sandbox, folder: Path, *words: str, stdin: bytes = b"") -> proxybox.Result:
    return box.run_program(Program(words=("-c", SOURCE, *words), folder=str(folder)), stdin=stdin)


COMMANDS = """
rm text; rm -f no text; rm no; rm empty; rm -d empty; rm -d full; rm -rf full; rm -r full no empty; rm -- -dash; rm -f
rm link; rm -r link; mkdir new; mkdir full; mkdir no/new; mkdir -p no/new full; mkdir -m 700 new; mkdir text/x
rmdir empty; rmdir full text no; cat text; cat text - text; cat; cat no text; cat empty; ls; ls -1; ls -a; ls text
ls -A full empty; ls text full empty; ls no; ls -d full; touch new text; touch -c no; touch no/new; chmod 600 text
chmod +x text; chmod -w text; chmod -r text; chmod u+rwx,go-r text; chmod a=r text; chmod g=,o=w text; chmod u=rwX text
chmod a+X full text; chmod 700 no text; chmod -R go-rx full; printf a\\n; printf %s- a b; printf %s=%d\\n a 1 b
printf %5.2f|%-4d|%x|%c|%% 3.14159 7 255 xyz; printf \\101\\x42\\t%b c\\n; printf %s a\\n; printf %s\\n; wc -c text
wc -l text; wc -w text; wc -c; sleep 0; sleep 0.01s 0
"""
#: Commands whose messages or columns differ from the host's: only the changes and the success are compared.
OTHER_WORDS = """
rm; rm -Z text; rm -rf .; rm -rf ..; rm --what text; mkdir; rmdir; touch; chmod 600; chmod q text; ls -l; wc text text
sleep x; sleep; whoami x; printf; printf x y; printf %q%z; printf %d x; cat -Z
"""


def lines(text: str) -> list[list[str]]:
    return [each.split() for each in text.replace("\n", ";").split(";") if each.strip()]


@pytest.mark.sized(40)
@pytest.mark.parametrize("words", lines(COMMANDS + OTHER_WORDS), ids=" ".join)
def test_a_command_does_what_the_hosts_does(box: proxybox.Sandbox, tmp_path: Path, words: list[str]) -> None:
    for name in ("boxed", "bare"):
        fill(tmp_path / name)
    stdin = b"of stdin\xff\n"
    theirs = subprocess.run(
        words, cwd=tmp_path / "bare", env=ENVIRONMENT, input=stdin, capture_output=True, check=False
    )
    ours = run(box, tmp_path / "boxed", *words, stdin=stdin)
    assert (ours.exit_code == 0, tree(tmp_path / "boxed")) == (theirs.returncode == 0, tree(tmp_path / "bare"))
    if words in lines(COMMANDS):
        assert ours.stdout_bytes == theirs.stdout
        assert ours.stderr.replace('"', "'") == theirs.stderr.decode().replace('"', "'")


def test_whoami_is_the_box_s_user(box: proxybox.Sandbox, tmp_path: Path) -> None:
    assert run(box, tmp_path, "whoami").stdout == "ada\n"


def test_modules_of_the_box_do_not_stand_in_for_those_of_a_command(box: proxybox.Sandbox, tmp_path: Path) -> None:
    for name in ("re", "stat", "errno", "time", "pwd", "os"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')")
    for words in (["printf", "%s\n", "a"], ["sleep", "0"], ["ls", "-l"], ["chmod", "u+x", "re.py"], ["whoami"]):
        result = run(box, tmp_path, *words)
        assert (result.ok, "hijacked" in result.stderr) == (True, False), words


@pytest.mark.full
def test_folders_that_lie_deeper_than_python_recurses_are_removed(box: proxybox.Sandbox, tmp_path: Path) -> None:
    code = "import os\nfor n in range(1100): os.mkdir('d'); os.chdir('d')"
    try:
        assert box.run_program(Program(words=("-c", code), folder=str(tmp_path))).ok
        assert run(box, tmp_path, "rm", "-rf", "d").ok
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_a_field_of_a_billion_columns_is_refused(box: proxybox.Sandbox, tmp_path: Path) -> None:
    result = run(box, tmp_path, "printf", "%1000000000s")
    assert (result.exit_code, result.stderr) == (1, "printf: %1000000000s: a field that is too wide\n")

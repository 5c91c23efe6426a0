"""The options of `proxybox learn`, and how it ends."""

import json
from pathlib import Path

import pytest

from proxybox.cli.app import main_group
from proxybox.policies import from_toml, preset
from tests.learning.hosts import Place

READS = "import sys\nprint(open(sys.argv[1]).read())\n"


def test_without_a_terminal_it_says_what_to_do(place: Place) -> None:
    done = place.proxybox("learn", place.script(READS), place.data / "sales.csv")
    assert (done.returncode, done.stdout) == (125, "")
    assert "there is no terminal to ask at: run it at one, or give --accept-all" in done.stderr


def test_the_policy_goes_to_stdout_and_runs_the_program(place: Place) -> None:
    script, csv = place.script(READS), place.data / "sales.csv"
    done = place.proxybox("learn", "--accept-all", script, csv)
    assert done.returncode == 0
    assert from_toml(done.stdout).filesystem.mounts[0].source == str(csv)
    (place.root / "x.toml").write_text(done.stdout)
    assert place.proxybox("run", "--policy", place.root / "x.toml", script, csv).stdout == csv.read_text() + "\n"


def test_a_policy_is_utf_8_whatever_the_locale(place: Place) -> None:
    (place.data / "über.csv").write_text("1")
    words = ("env", "PYTHONIOENCODING=latin-1", "PYTHONUTF8=0")
    done = place.proxybox(
        "learn", "--accept-all", place.script(READS), place.data / "über.csv", prefix=words, errors="replace"
    )
    assert done.returncode == 0, done.stderr
    assert str(from_toml(done.stdout).filesystem.mounts[0].source).endswith("über.csv")


def test_a_program_that_does_not_pass(place: Place) -> None:
    done = place.proxybox("learn", "--accept-all", "-c", "import sys; print('why', file=sys.stderr); sys.exit(3)")
    assert done.returncode == 1
    assert "which does NOT pass under it" in done.stdout
    assert "| why\n" in done.stderr
    assert "the program does not pass: error (exit status 3)" in done.stderr


def test_a_secret_is_told_with_the_option_that_lets_it_in(place: Place) -> None:
    script, key = place.script(READS), place.home / ".ssh" / "id_rsa"
    done = place.proxybox("learn", "--accept-all", script, key)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("proxybox: not let in: "))
    assert line.endswith(f"; with --accept-all it is let in by --allow {key})")
    assert place.proxybox("learn", "--accept-all", "--allow", key, script, key).returncode == 0


def test_a_script_that_is_not_there_comes_before_the_terminal(place: Place) -> None:
    done = place.proxybox("learn", "none.py")
    assert (done.returncode, done.stderr) == (125, "proxybox: can't open file 'none.py': No such file or directory\n")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("-",), 2, "learn runs a program several times"),
        (("--writes", "here", "-c", "1"), 2, "--writes: want one of memory, overlay, rw, got 'here'"),
        (("--rounds", "0", "-c", "1"), 2, "--rounds: want a number from 1 to 1000"),
        (("--also", "'", "-c", "1"), 2, "--also: No closing quotation"),
        (("--env", "NO_SUCH_THING", "-c", "1"), 2, "there is no environment variable 'NO_SUCH_THING' here"),
        (("--from", "nothing", "-c", "1"), 125, 'there is no preset "nothing"'),
        (("--merge", "./none.toml", "-c", "1"), 125, "none.toml"),
        (("--input", "/no/file", "-c", "1"), 125, "can't read '/no/file'"),
        (("-o", "/no/folder/x", "-c", "1"), 125, "can't write the policy to '/no/folder/x'"),
        (("-o", "/", "-c", "1"), 125, "can't write the policy to '/'"),
        (("none.py",), 125, "can't open file 'none.py'"),
        (("--mount", "/no/such:/x", "-c", "1"), 125, "/no/such does not exist"),
    ],
)
def test_mistakes_are_said_in_one_line(words: tuple[str, ...], status: int, said: str, place: Place) -> None:
    done = place.proxybox("learn", "--accept-all", *words)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


def test_it_begins_with_strict_or_what_is_named(place: Place) -> None:
    done = place.proxybox("learn", "--accept-all", "-c", "1")
    assert from_toml(done.stdout) == preset("strict")
    done = place.proxybox("learn", "--accept-all", "--from", "classroom", "--set", "limits.threads=2", "-c", "1")
    assert from_toml(done.stdout).limits.threads == 2
    assert 'extends = "classroom"' in done.stdout


def test_arguments_of_several_runs(place: Place) -> None:
    texts = place.data / "texts"
    done = place.proxybox(
        "learn", "--accept-all", "--also", f"{texts}/a.txt", "--also", f"'{texts}/b.txt'",
        place.script(READS), place.data / "sales.csv",
    )  # fmt: skip
    assert done.returncode == 0
    assert {Path(str(mount.source)).name for mount in from_toml(done.stdout).filesystem.mounts} == {
        "sales.csv", "a.txt", "b.txt",
    }  # fmt: skip


def test_policies_are_merged(place: Place) -> None:
    first = place.root / "first.toml"
    script = place.script(READS)
    assert place.proxybox("learn", "--accept-all", "-o", first, script, place.data / "sales.csv").returncode == 0
    done = place.proxybox("learn", "--accept-all", "--merge", first, script, place.data / "texts" / "a.txt")
    both = from_toml(done.stdout).filesystem.mounts
    assert [Path(str(mount.source)).name for mount in both] == ["sales.csv", "a.txt"]


def test_what_each_run_reads(place: Place) -> None:
    code = "import sys; assert sys.stdin.read() == 'given\\n'"
    (place.root / "input").write_text("given\n")
    assert place.proxybox("learn", "--accept-all", "--input", place.root / "input", "-c", code).returncode == 0
    assert place.proxybox("learn", "--accept-all", "--input", "-", "-c", code, input="given\n").returncode == 0
    assert place.proxybox("learn", "--accept-all", "-c", code, input="given\n").returncode == 1


def test_a_variable_that_is_named_gets_its_value(place: Place) -> None:
    code = "import os; assert len(os.environ['API_TOKEN']) > 5"
    done = place.proxybox("learn", "--accept-all", "--env", "API_TOKEN", "-c", code)
    assert done.returncode == 0
    assert from_toml(done.stdout).environment.variables["API_TOKEN"] == place.environment()["API_TOKEN"]


def test_what_was_learned_as_json(place: Place) -> None:
    csv = str(place.data / "sales.csv")
    done = place.proxybox("learn", "--accept-all", "--json", place.script(READS), csv)
    found = json.loads(done.stdout)
    assert (found["passes"], found["rounds"], found["runs"]) == (True, 2, ["ok"])
    [line] = found["lines"]
    assert line["mount"] == {"target": csv, "source": csv, "mode": "ro", "names": None}
    assert line["calls"] == {"openat": 1}
    assert from_toml(found["toml"]).filesystem.mounts[0].source == csv


def test_a_policy_with_mounts_that_are_read_only_becomes_writable_in_the_box(place: Place) -> None:
    code = "open('/data/texts/a.txt', 'a').write('x')"
    done = place.proxybox("learn", "--accept-all", "--mount", f"{place.data}:/data", "-c", code)
    assert done.returncode == 0, done.stderr
    assert from_toml(done.stdout).filesystem.mounts[1].mode == "overlay"


def test_a_box_that_changes_its_folder_does_so_only_afterwards(place: Place) -> None:
    script = place.script("open('made.txt', 'w').write('1')")
    done = place.proxybox("learn", "--accept-all", "--rw", "-o", place.root / "x.toml", script)
    assert done.returncode == 0
    assert not (script.parent / "made.txt").exists()
    assert from_toml((place.root / "x.toml").read_text()).filesystem.box == "rw"
    assert place.proxybox("run", "--policy", place.root / "x.toml", script).returncode == 0
    assert (script.parent / "made.txt").exists()


@pytest.mark.sized(2)
@pytest.mark.parametrize(
    "code",
    [
        "import shutil, sys; shutil.rmtree(sys.argv[1] + '/texts')",
        "import os, sys; os.rename(sys.argv[1] + '/texts/a.txt', sys.argv[1] + '/texts/z.txt')",
        "import os, sys; os.remove(sys.argv[1] + '/texts/a.txt'); print(os.listdir(sys.argv[1] + '/texts'))",
        "import os, sys; p = sys.argv[1] + '/texts/'; open(p + 'n', 'w').close(); os.replace(p + 'n', p + 'a.txt')",
        "import shutil, sys; shutil.copytree(sys.argv[1] + '/texts', sys.argv[1] + '/texts2')",
        "import os, sys; os.makedirs(sys.argv[1] + '/x/y/z'); open(sys.argv[1] + '/x/y/z/f', 'w').close()",
        "import os, sys; os.chdir(sys.argv[1] + '/texts'); print(open('a.txt').read(), os.listdir('.'))",
    ],
)
def test_ways_of_using_folders(code: str, place: Place) -> None:
    script, policy = place.script(code), place.root / "x.toml"
    before = place.snapshot()
    learned = place.proxybox("learn", "--accept-all", "--allow", place.data, "-o", policy, script, place.data)
    assert learned.returncode == 0, learned.stderr
    assert place.proxybox("run", "--policy", policy, script, place.data).returncode == 0
    assert {name: each for name, each in place.snapshot().items() if name != "x.toml"} == before


def test_a_folder_that_is_too_large_for_a_copy_is_shown_itself(place: Place) -> None:
    script = place.script("import os; print(os.path.getsize('large'))")
    (script.parent / "large").write_bytes(bytes(9 << 20))
    done = place.proxybox("learn", "--accept-all", script)
    assert done.returncode == 0, done.stderr
    assert from_toml(done.stdout).filesystem.box == "overlay"
    assert "no box starts with a copy of the script's folder" in done.stdout


def test_ways_of_writing_are_completed() -> None:
    from proxybox.cli.options import complete_writes

    learn = main_group().commands["learn"]
    option = next(each for each in learn.params if each.name == "writes")
    assert [item.value for item in complete_writes(None, option, "o")] == ["overlay"]  # type: ignore[arg-type]


@pytest.mark.full
def test_exit_statuses_are_accepted(place: Place) -> None:
    code = "import sys; sys.exit(3)"
    assert place.proxybox("learn", "--accept-all", "-c", code).returncode == 1
    assert place.proxybox("learn", "--accept-all", "--exit-status", "3", "-c", code).returncode == 0
    for wrong in ("256", "-1", "x"):
        done = place.proxybox("learn", "--accept-all", f"--exit-status={wrong}", "-c", code)
        assert (done.returncode, "--exit-status: want a number from 0 to 255" in done.stderr) == (2, True)


def test_a_file_that_is_rewritten_in_place(place: Place) -> None:
    """As with autopep8 -i: it looks for settings beside the file, reads the file, and writes it again."""
    (place.data / "setup.cfg").write_text("[settings]\n")
    (place.data / "code.py").write_text("a=1\n")
    code = f"""
import os
os.path.exists({str(place.data / "setup.cfg")!r}) and open({str(place.data / "setup.cfg")!r}).read()
text = open({str(place.data / "code.py")!r}).read()
open({str(place.data / "code.py")!r}, "w").write(text.replace("=", " = "))
"""
    done = place.proxybox("learn", "--accept-all", "--json", "-c", code)
    found = json.loads(done.stdout)
    assert found["passes"], done.stderr
    assert [(line["mount"]["target"], line["mount"]["mode"]) for line in found["lines"]] == [
        (str(place.data), "overlay")
    ]
    assert (place.data / "code.py").read_text() == "a=1\n"

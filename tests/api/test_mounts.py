"""Mounts of every kind, seen from a program."""

import os
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import Filesystem, Mount, Status
from proxybox.controller.vfs.host.attributes import ACCESS
from proxybox.controller.vfs.host.nodes import HostFile
from tests.vfs.rights import acl, why_not


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A host folder with a file, a folder, a link and a dotfile; anybody may read it."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "file.txt").write_text("from the host")
    (folder / "sub" / "deep").write_bytes(b"\x00\xff")
    (folder / "link").symlink_to("file.txt")
    (folder / "out").symlink_to("/etc/hostname")
    (folder / ".hidden").write_text("secret")
    return folder


def run(code: str, *mounts: Any, **fields: Any) -> proxybox.Result:
    return proxybox.run(code, filesystem=mounts, **fields)


def told(result: proxybox.Result) -> list[str]:
    assert result.ok, result.stderr
    return result.stdout.splitlines()


READ = """
import os
print(open("/data/file.txt").read(), open("/data/sub/deep", "rb").read(), sorted(os.listdir("/data")))
print(open("/data/link").read(), os.readlink("/data/link"), os.path.exists("/data/.hidden"))
for call, *words in ((open, "/data/file.txt", "a"), (open, "/data/new", "w"), (os.remove, "/data/file.txt"),
                     (os.rename, "/data/sub", "/data/x"), (os.chmod, "/data/file.txt", 0), (os.mkdir, "/data/d")):
    try:
        call(*words)
        print("done")
    except OSError as error:
        print(error.errno, end=" ")
"""


def test_read_only(data: Path) -> None:
    lines = told(run(READ, Mount("/data", data)))
    assert lines[0] == "from the host b'\\x00\\xff' ['file.txt', 'link', 'out', 'sub']"
    assert lines[1] == "from the host file.txt False"
    assert lines[2].split() == ["30"] * 6
    assert (data / "file.txt").read_text() == "from the host"


def test_a_link_leads_on_in_the_box_and_not_on_the_host(data: Path) -> None:
    assert told(run("print(open('/data/out').read().strip())", Mount("/data", data))) == ["box"]


def test_dotfiles_when_they_are_asked_for(data: Path) -> None:
    files = Filesystem(mounts=[Mount("/data", data)], hide_dotfiles=False)
    assert proxybox.run("print(open('/data/.hidden').read())", filesystem=files).stdout == "secret\n"


def test_names_that_match_a_pattern_are_all_that_a_folder_has(data: Path) -> None:
    (data / "sub" / "file.csv").write_text("deep")
    (data / "to-file").symlink_to("file.txt")
    (data / "to-sub.txt").symlink_to("sub/deep")
    (data / "hard.csv").hardlink_to(data / "out")
    code = """
import os
print(sorted(os.listdir("/data")), sorted(os.listdir("/data/sub")))
print(open("/data/sub/../file.txt").read(), open("/data/sub/file.csv").read())
folder = os.open("/data", os.O_RDONLY)
for name in ("link", "hard.csv", ".hidden", "sub/../link", "../data/link", "to-file.txt/../link", "nothing"):
    for call in (os.lstat, os.open, os.readlink, os.unlink, os.mkdir, os.chdir):
        for dir_fd in (None, folder):
            try:
                if dir_fd is None:
                    call("/data/" + name, *[os.O_RDONLY] * (call is os.open))
                elif call is not os.chdir:
                    call(name, *[os.O_RDONLY] * (call is os.open), dir_fd=dir_fd)
            except (FileNotFoundError, NotADirectoryError) as error:
                continue
            except OSError as error:
                assert error.strerror == "Read-only file system" and call is os.mkdir, (call, name, error)
                continue
            assert call is os.chdir, (call, name)
"""
    mount = Mount("/data", data, names=["*.txt", "su[b]", "to-*"])
    shown = "['file.txt', 'sub', 'to-file', 'to-sub.txt'] ['deep', 'file.csv']"
    assert told(run(code, mount)) == [shown, "from the host deep"]


def test_a_link_to_a_name_that_is_not_shown_leads_nowhere_and_does_not_tell_it(data: Path) -> None:
    hidden = ("file.txt", data / "file.txt", "sub/../link", f"../{data.name}/file.txt", "./to-sub/../../data/file.txt")
    for number, text in enumerate(hidden):
        (data / f"to-{number}").symlink_to(text)
    (data / "to-x").mkdir()
    (data / "to-x" / "up").symlink_to("../file.txt")
    (data / "to-x" / "other").symlink_to("../to-0")
    code = """
import os
for name in sorted(os.listdir(".")): print(name, os.path.exists(name), os.path.islink(name) and os.readlink(name))
print(os.path.exists("to-x/up"), os.readlink("to-x/up"), os.readlink("to-x/other"))
"""
    links = [f"to-{number} False /(outside)" for number in range(len(hidden))]
    for place in ("/data", str(data)):
        found = run(f"import os; os.chdir({place!r})\n{code}", Mount(place, data, names=["to-*"]))
        assert told(found) == [*links, "to-x True False", "False /(outside) ../to-0"]


def test_the_status_of_a_folder_does_not_tell_how_many_names_it_hides(data: Path) -> None:
    code = """
import os
print(os.stat("/data").st_nlink, os.stat("/data").st_size, os.fstat(os.open("/data", os.O_RDONLY)).st_nlink)
"""
    for number in range(3):
        (data / f"folder-{number}").mkdir()
    assert told(run(code, Mount("/data", data, names=["*.txt"]))) == ["2 4096 2"]


def test_names_are_those_of_a_folder(data: Path) -> None:
    with pytest.raises(proxybox.SandboxStartError, match="names choose among those of a folder"):
        run("", Mount("/data", data / "file.txt", names=["*"]))


def test_read_and_write(data: Path) -> None:
    data.chmod(0o777)
    code = """
import os
open("/data/new", "w").write("new")
with open("/data/file.txt", "r+") as file:
    file.write("FROM")
os.mkdir("/data/made")
os.rename("/data/sub/deep", "/data/made/moved")
os.remove("/data/link")
print(sorted(os.listdir("/data")), os.stat("/data/new").st_uid == os.getuid())
"""
    assert told(run(code, Mount("/data", data, mode="rw")))[0].startswith("['file.txt', 'made', 'new', 'out', 'sub']")
    assert (data / "new").read_text() == "new"
    assert (data / "file.txt").read_text() == "FROM the host"
    assert (data / "made" / "moved").read_bytes() == b"\x00\xff"
    assert not (data / "link").is_symlink()


def test_a_file_that_its_caller_writes_stays_the_host_s_own(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file in its place would not have its owner, ACL and attributes."""
    if why := why_not(data):
        pytest.skip(why)
    file = data / "file.txt"
    os.setxattr(file, "user.note", b"kept")
    os.setxattr(file, ACCESS, acl("user::rw-,user:1001:---,group::r--,mask::rw-,other::rw-"))
    if os.getuid() == 0:
        os.chown(file, 1001, 1002)
    data.chmod(0o777)

    def rights() -> list[object]:
        status = file.stat()
        attributes = {name: os.getxattr(file, name) for name in os.listxattr(file)}
        return [status.st_ino, status.st_mode, status.st_uid, status.st_gid, attributes]

    before = rights()
    with proxybox.Sandbox(filesystem=[Mount("/data", data, mode="rw")]) as box, box.session() as session:
        session.write_file("/data/link", b"written")
        assert (file.read_text(), rights()) == ("written", before)
        monkeypatch.setattr(HostFile, "room", lambda _: 10)
        with pytest.raises(OSError, match="the host's disk has room for 10 bytes"):
            session.write_file("/data/file.txt", b"too large for it")
        assert (file.read_text(), rights()) == ("written", before)
        session.write_file("/data/new", b"is made")
    assert (data / "new").read_text() == "is made"
    assert not list(data.glob("*.part"))


def test_what_the_host_changes_is_seen(data: Path) -> None:
    def change(text: str) -> None:
        (data / "file.txt").write_text("changed")
        (data / "late").write_text("late")

    code = """
print(open("/data/file.txt").read(), flush=True)
input()
print(open("/data/file.txt").read(), open("/data/late").read())
"""
    result = run(code, Mount("/data", data), on_stdout=change, stdin=lambda size: "\n")
    assert told(result) == ["from the host", "changed late"]


def test_an_overlay(data: Path) -> None:
    code = """
import os
with open("/data/file.txt", "a") as file:
    file.write(" and the box")
os.remove("/data/sub/deep")
os.rmdir("/data/sub")
with open("/data/new", "w") as file:
    file.write("new")
print(open("/data/file.txt").read(), sorted(os.listdir("/data")))
"""
    result = run(code, Mount("/data", data, mode="overlay"))
    assert told(result) == ["from the host and the box ['file.txt', 'link', 'new', 'out']"]
    assert (data / "file.txt").read_text() == "from the host"
    assert (data / "sub" / "deep").exists()
    assert result.files["/data/file.txt"] == b"from the host and the box"
    kinds = {change.name: change.kind for change in result.files.changes}
    assert kinds["/data/file.txt"] == "modified"
    assert kinds["/data/new"] == "added"
    assert kinds["/data/sub"] == "deleted"


def test_memory() -> None:
    code = """
with open("/scratch/x", "wb") as file:
    file.write(bytes(50_000))
print(len(open("/scratch/x", "rb").read()))
with open("/scratch/y", "wb") as file:
    file.write(bytes(60_000))
"""
    result = run(code, Mount("/scratch", size="100K"))
    assert result.stdout == "50000\n"
    assert result.error is not None
    assert "[Errno 28]" in result.error.message
    assert result.status is Status.DISK_LIMIT


def test_memory_with_few_files() -> None:
    result = run("for n in range(20): open(f'/scratch/{n}', 'w').close(); print(n)", Mount("/scratch", files=5))
    assert result.stdout.splitlines()[-1:] in (["3"], ["4"])
    assert result.status is Status.DISK_LIMIT


def test_a_tree_of_files() -> None:
    tree = {"a.txt": "text ü", "sub": {"b": b"\xff", "deeper": {"c": ""}}, "empty": {}}
    code = """
import os
print([(top, sorted(dirs), sorted(files)) for top, dirs, files in sorted(os.walk("/tree"))])
print(open("/tree/a.txt").read(), open("/tree/sub/b", "rb").read(), os.stat("/tree/sub/deeper/c").st_size)
try:
    open("/tree/a.txt", "w").write("changed")
except OSError as error:
    print(error.errno)
print(open("/tree/a.txt").read())
"""
    lines = told(run(code, Mount("/tree", tree)))
    assert lines[0] == (
        "[('/tree', ['empty', 'sub'], ['a.txt']), ('/tree/empty', [], []), "
        "('/tree/sub', ['deeper'], ['b']), ('/tree/sub/deeper', [], ['c'])]"
    )
    assert lines[1:] == ["text ü b'\\xff' 0", "30", "text ü"]
    assert told(run(code.replace('.write("changed")', ".close()"), Mount("/tree", tree, mode="memory")))[-1] == ""
    assert tree["a.txt"] == "text ü"


def test_one_file_of_bytes() -> None:
    code = "import os; print(open('/etc/config').read(), os.path.isfile('/etc/config'), 'config' in os.listdir('/etc'))"
    assert told(run(code, Mount("/etc/config", b"content"))) == ["content True True"]


def test_a_host_file_alone(data: Path) -> None:
    code = "import os; print(open('/in/one').read(), os.listdir('/in'))"
    assert told(run(code, Mount("/in/one", data / "file.txt"))) == ["from the host ['one']"]


def test_a_function_gives_the_content_at_each_opening() -> None:
    numbers = iter(range(10))
    code = "f = open('/live'); print(f.read()); print(open('/live').read(), open('/live').read())"
    result = run(code, Mount("/live", lambda: f"number {next(numbers)}".encode()))
    assert told(result) == ["number 0", "number 1 number 2"]


def test_a_function_that_fails_is_the_callers() -> None:
    def fail() -> bytes:
        raise LookupError("of the caller")

    with pytest.raises(LookupError, match="of the caller"):
        run("open('/live').read()", Mount("/live", fail))


def test_mounts_in_mounts(data: Path) -> None:
    code = """
import os
print(sorted(os.listdir("/a")), sorted(os.listdir("/a/data")), open("/a/data/inner/x").read())
print(os.path.realpath("/a/data/../b"), open("/a/data/../b").read(), os.path.ismount("/a/data"))
try:
    os.rename("/a/b", "/a/data/b")
except OSError as error:
    print(error.errno in (18, 30))
"""
    mounts = [Mount("/a", {"b": "B", "data": {}}), Mount("/a/data", data), Mount("/a/data/inner", {"x": "X"})]
    lines = told(run(code, *mounts))
    assert lines == ["['b', 'data'] ['file.txt', 'inner', 'link', 'out', 'sub'] X", "/a/b B True", "True"]


def test_short_forms(data: Path) -> None:
    assert told(run("print(open('/d/file.txt').read())", f"{data}:/d")) == ["from the host"]
    assert told(run("print(open('/d/x').read())", {"target": "/d", "source": {"x": "y"}})) == ["y"]


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(proxybox.SandboxStartError, match=r"/data: .*none"):
        run("pass", Mount("/data", tmp_path / "none"))


@pytest.mark.parametrize("source", ["/proc", "/proc/self", "/sys", "/dev/null", "/proc/self/environ"])
def test_what_cannot_be_a_source(source: str) -> None:
    with pytest.raises(proxybox.SandboxStartError):
        run("print(open('/data').read())", Mount("/data", source))


BOX_MODES = """
import os
print(sorted(os.listdir(".")))
try:
    with open("new", "w") as file:
        file.write("new")
    print(open("new").read())
except OSError as error:
    print(error.errno)
"""


@pytest.mark.parametrize(
    ("mode", "said", "changed", "kept"),
    [
        ("overlay", "new", True, False),
        ("memory", "new", True, False),
        ("ro", "30", False, False),
        ("rw", "new", False, True),
    ],
)
def test_modes_of_the_box(tmp_path: Path, mode: str, said: str, changed: bool, kept: bool) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "script.py").write_text(BOX_MODES)
    (tmp_path / "beside").write_text("x")
    result = proxybox.run(tmp_path / "script.py", filesystem={"box": mode})
    assert told(result) == ["['beside', 'script.py']", said]
    assert ("new" in result.files) == changed
    assert (tmp_path / "new").exists() == kept


def test_packages(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "greeting.py").write_text("import other; text = 'hello ' + other.name")
    (tmp_path / "two" / "other").mkdir(parents=True)
    (tmp_path / "two" / "other" / "__init__.py").write_text("name = 'packages'")
    code = (
        "import greeting; print(greeting.text, greeting.__file__.count('/packages') == 1); open(greeting.__file__, 'a')"
    )
    with proxybox.Sandbox(packages=[tmp_path / "one", tmp_path / "two"]) as box:
        for _ in range(2):
            result = box.run(code)
            assert result.stdout == "hello packages True\n"
            assert result.error is not None
            assert "[Errno 30]" in result.error.message


def test_nothing_tells_where_things_are_on_the_host(data: Path) -> None:
    code = """
import os, sys
texts = [repr(sys.path), repr(sys.argv), repr(os.environ), os.getcwd(), sys.executable]
for top, _, files in os.walk("/proc/self"):
    for name in files:
        try:
            texts.append(open(os.path.join(top, name), "rb").read(1 << 20).decode("latin-1"))
        except OSError:
            pass
for name in ("/data/none", "/data/file.txt/x"):
    try:
        open(name)
    except OSError as error:
        texts.append(str(error))
print("\\n".join(texts))
"""
    result = run(code, Mount("/data", data))
    assert result.ok, result.stderr
    assert str(data.parent) not in result.stdout
    assert os.path.dirname(proxybox.__file__) not in result.stdout


def test_a_box_in_memory_copies_regular_files_and_nothing_else(tmp_path: Path) -> None:
    """They are opened like all host paths: a FIFO does not block the caller, and a link is not followed."""
    (tmp_path / "script.py").write_text("import os; print(sorted(os.listdir('.')), os.stat('sub/large').st_size)")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "large").write_bytes(bytes(3_000_000))
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    result = proxybox.run(tmp_path / "script.py", filesystem={"box": "memory"})
    assert told(result) == ["['script.py', 'sub'] 3000000"]
    assert not result.files.changes


def test_a_folder_that_cannot_be_copied_is_a_clear_error(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(70):
        folder = folder / "d"
    folder.mkdir(parents=True)
    (tmp_path / "script.py").write_text("pass")
    with pytest.raises(proxybox.SandboxStartError, match="cannot be copied"):
        proxybox.run(tmp_path / "script.py", filesystem={"box": "memory"})

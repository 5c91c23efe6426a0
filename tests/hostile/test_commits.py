"""Commits of a hostile guest's files to the host: nothing outside the folder is written, and no set-id bit."""

import contextlib
import errno
import os
import shutil
import sys
from pathlib import Path

import anyio
import pytest

import proxybox
from proxybox import ProxyboxError
from proxybox.controller.costs.steps import CALL

sys.path.insert(0, str(Path(__file__).parents[1] / "vfs"))
from commitscenes import as_user


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_text("untouched")
    folder = tmp_path / "project"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text("old")
    (folder / "file").write_text("old")
    return folder


def run(folder, code):
    (folder / "main.py").write_text(code)
    result = proxybox.run(folder / "main.py", timeout=200)
    assert result.ok, result.stderr
    return result


def commit(result):
    """Commits, and returns whether that succeeded. A refusal raises ProxyboxError or OSError, and no other error."""
    try:
        result.files.commit()
    except (ProxyboxError, OSError):
        return False
    return True


def untouched(folder):
    outside = folder.parent / "outside"
    assert sorted(os.listdir(folder.parent)) == ["outside", "project"]
    assert os.listdir(outside) == ["victim"]
    assert (outside / "victim").read_text() == "untouched"


LINKS = {
    "absolute": "os.symlink('{outside}', 'link')",
    "upwards": "os.symlink('../outside', 'link')",
    "by way of a folder": "os.symlink('sub/../../outside', 'link')",
    "in a new folder": "os.makedirs('a/b'); os.symlink('../../../outside', 'a/b/link')",
    "in pieces": "os.symlink('..', 'sub/up'); os.symlink('sub/up/../outside', 'link')",
    "moved up after it was made": "os.makedirs('a/b/c'); os.symlink('../../outside', 'a/b/c/link'); os.rename('a/b/c', 'c')",
    "through another link": "os.symlink('.', 'here'); os.symlink('here/../outside', 'link')",
    "through a link that comes later": "os.symlink('z/../outside', 'link'); os.symlink('sub', 'z')",
    "in place of a folder": "import shutil; shutil.rmtree('sub'); os.symlink('../outside', 'sub')",
    "to proc": "os.symlink('/proc/self/cwd', 'link')",
}


REFUSED_IN_THE_BOX = {
    "by way of a folder": "EPERM",
    "in pieces": "EPERM",
    "moved up after it was made": "EXDEV",
    "through another link": "EPERM",
    "through a link that comes later": "EPERM",
}


@pytest.mark.parametrize("how", LINKS)
def test_a_link_that_leads_out(folder, how):
    lines = ["import errno, os", "try:"]
    lines += [f"    {line}" for line in LINKS[how].format(outside=folder.parent / "outside").split("; ")]
    lines += ["except OSError as error: print(errno.errorcode[error.errno])"]
    result = run(folder, "\n".join(lines))
    assert result.stdout.strip() == REFUSED_IN_THE_BOX.get(how, "")
    if commit(result):
        for where, folders, files in os.walk(folder):
            for name in [*folders, *files]:
                place = os.path.join(where, name)
                if os.path.islink(place):
                    assert os.path.realpath(place).startswith(str(folder)), place
    untouched(folder)


def test_modes_and_kinds(folder):
    result = run(
        folder,
        """
import os
for name in ("suid", "file", "sub"):
    if name == "suid": open(name, "w").close()
    try: os.chmod(name, 0o7777)
    except OSError: pass
""",
    )
    commit(result)
    for name in ("suid", "file", "sub"):
        if os.path.exists(folder / name):
            assert not os.stat(folder / name).st_mode & 0o6000, name
    untouched(folder)


SWAPS = {
    "a folder becomes a link": lambda folder: (
        shutil.rmtree(folder / "sub"),
        (folder / "sub").symlink_to(folder.parent / "outside"),
    ),
    "a file becomes a link": lambda folder: (
        (folder / "file").unlink(),
        (folder / "file").symlink_to(folder.parent / "outside" / "victim"),
    ),
    "a new name is taken by a link": lambda folder: (folder / "new").symlink_to(folder.parent / "outside" / "victim"),
    "a new folder is taken by a link": lambda folder: (folder / "made").symlink_to(folder.parent / "outside"),
    "a file is written meanwhile": lambda folder: (folder / "file").write_text("by the host"),
    "a fifo takes a name": lambda folder: ((folder / "file").unlink(), os.mkfifo(folder / "file")),
}


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS.keys())
def test_the_host_changes_before_the_commit(folder, swap):
    result = run(
        folder,
        """
import os
for name in ("sub/file", "sub/victim", "file", "new"): open(name, "w").write("by the guest")
os.mkdir("made"); open("made/victim", "w").write("by the guest")
""",
    )
    swap(folder)
    commit(result)
    untouched(folder)
    with contextlib.suppress(OSError):
        if not (folder / "file").is_symlink() and (folder / "file").is_file():
            assert (folder / "file").read_text() in ("by the host", "old", "by the guest")


def test_a_race_with_the_commit(folder):
    import threading

    over = threading.Event()

    def swap():
        (folder / "link").symlink_to(folder.parent / "outside")
        while not over.is_set():
            with contextlib.suppress(OSError):
                os.rename(folder / "sub", folder / "between")
                os.rename(folder / "link", folder / "sub")
                os.rename(folder / "sub", folder / "link")
                os.rename(folder / "between", folder / "sub")

    result = [run(folder, "for n in range(100): open(f'sub/{n}', 'w').write('by the guest')") for _ in range(3)]
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for each in result:
            commit(each)
    finally:
        over.set()
        thread.join()
    untouched(folder)


def test_names_that_would_act_on_a_terminal_are_told_as_escapes(folder):
    result = run(folder, r"for name in ('\x1b]0;x\x07', 'a\n', '\u202e', '\udcff'): open(name, 'w').close()")
    for name in ("\x1b]0;x\x07", "a\n", "\u202e"):
        (folder / name).touch()
    with pytest.raises(proxybox.CommitRefused) as caught:
        result.files.commit()
    assert str(caught.value).isprintable()
    assert len(caught.value.reasons) == 3
    assert "\\x1b]0;x\\x07: appeared on the host meanwhile" in caught.value.reasons


def test_names_of_any_bytes(folder):
    result = run(
        folder,
        r"""
for name in (b"a\nb", b"\xff\xfe", b"\x1b]0;x\x07", b"-rf", b" ", b"~", b"$(touch x)", b"\xc0\xae\xc0\xae"): open(b"/box/" + name, "w").close()
""",
    )
    assert commit(result)
    assert b"\xc0\xae\xc0\xae" in os.listdir(os.fsencode(folder))
    untouched(folder)


# --- what would be lost -----------------------------------------------------------------------------------------------


def run_by_itself(script, files):
    return proxybox.run(script, files=files)


def run_in_a_pool(script, files):
    with proxybox.Pool(size=1) as pool:
        return pool.run(script, files=files)


def run_in_a_loop(script, files):
    async def main():
        async with proxybox.AsyncSandbox() as sandbox:
            return await sandbox.run(script, files=files)

    return anyio.run(main)


@pytest.fixture(scope="module", autouse=True)
def _engines(tmp_path_factory):
    """Starts the threads of an event loop that last, before these tests look for new threads."""
    script = tmp_path_factory.mktemp("first") / "main.py"
    script.write_text("")

    async def main():
        async with proxybox.AsyncSandbox() as sandbox, anyio.create_task_group() as group:
            for _ in range(4 * len(os.sched_getaffinity(0))):
                group.start_soon(sandbox.run, script)

    anyio.run(main)


FRONT_ENDS = [run_by_itself, run_in_a_pool, run_in_a_loop]
EXCHANGE = (
    "import ctypes; e = ctypes.CDLL(None, use_errno=True); e.renameat2(-100, {0!r}, -100, {1!r}, 2) and "
    "(_ for _ in ()).throw(OSError(ctypes.get_errno(), ''))"
)
#: Ways to move a file of the host to a hidden name. A commit writes no hidden names, so it would lose the file.
LOSING = {
    "renamed": "os.rename('file', '.file')",
    "renamed over a hidden file": "os.rename('file', '.env')",
    "renamed into a new hidden folder": "os.mkdir('.d'); os.rename('file', '.d/file')",
    "renamed to below a hidden folder": "os.makedirs('.d/e/f'); os.rename('file', '.d/e/f/file')",
    "into a folder that is hidden later": "os.makedirs('d/e'); os.rename('d', '.d'); os.rename('file', '.d/e/file')",
    "renamed to a hidden name in a new folder": "os.mkdir('d'); os.rename('file', 'd/.file')",
    "a folder": "os.rename('sub', '.sub')",
    "in a new folder": "os.makedirs('d/e'); os.rename('file', 'd/e/file'); os.rename('d', '.d')",
    "by a link": "os.link('file', '.file')",
    "by a link to a copy": "open('file', 'a').close(); os.chmod('file', 0o600); os.link('file', '.file')",
    "into a hidden folder that was given": "os.rename('file', '.given/file')",
    "exchanged with what was given": EXCHANGE.format(b"file", b".given/one"),
    "exchanged with a hidden file of its own": "open('.own', 'w').close(); " + EXCHANGE.format(b".own", b"file"),
    "in a folder of too many to look at": "os.mkdir('d'); [open(f'd/{n}', 'w').close() for n in range(2100)]; "
    "os.rename('d', '.d')",
}


@pytest.mark.cover(1)
@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("how", LOSING)
def test_what_the_host_has_cannot_be_moved_to_a_hidden_name(folder, how, front_end):
    (folder / ".env").write_text("secret")
    code = f"import errno, os\ntry: {LOSING[how]}\nexcept OSError as error: print(errno.errorcode[error.errno])"
    (folder / "main.py").write_text(code)
    result = front_end(folder / "main.py", {".given/one": "1"})
    assert result.stdout == "EACCES\n", result
    result.files.commit()
    assert len([path for path in folder.rglob("file") if path.read_text() == "old"]) == 2
    assert (folder / ".env").read_text() == "secret"
    assert [path.name for path in folder.rglob(".*")] == [".env"]


#: Ways to a hidden file of the host, or to a file that replaces it after a commit.
REACHING = {
    "opened": "open('.env').read()",
    "listed": "os.listdir('.git')",
    "by a new folder of its name": "os.mkdir('.git'); show(os.listdir('.git')); open('.git/config').read()",
    "replaced": "put('.env'); show(os.path.getsize('.env')); os.truncate('.env', 0)",
    "made anew and removed": "put('.env'); os.unlink('.env'); open('.env').read()",
    "a folder made and removed": "os.mkdir('.git'); os.rmdir('.git'); os.listdir('.git')",
    "renamed over": "put('x'); os.rename('x', '.env'); os.rename('.env', 'y')",
    "a folder renamed over": "os.mkdir('x'); os.rename('x', '.git'); os.rename('.git', 'y')",
    "renamed away": "os.rename('.env', 'x')",
    "exchanged": "put('x'); " + EXCHANGE.format(b"x", b".env"),
    "linked": "os.link('.env', 'x')",
    "linked over": "put('x'); os.link('x', '.env'); show(open('.env').read())",
    "by a link": "os.symlink('.env', 'x'); open('x').read()",
    "by a hidden link": "os.symlink('.env', '.x'); open('.x').read()",
    "by a hidden link in its place": "os.symlink('.env', '.git'); open('.git').read()",
    "by a hidden folder beside it": "os.makedirs('.a/b'); open('.a/b/../../.env').read()",
    "its folder renamed": "os.rename('sub', 'new'); open('new/.env').read()",
    "its folder renamed over a hidden one": "os.mkdir('d'); os.rename('d', '.git'); os.rename('sub', '.git/sub')",
    "its folder removed": "os.unlink('sub/file'); os.rmdir('sub'); os.mkdir('sub'); open('sub/.env').read()",
    "removed": "os.unlink('.env')",
    "its mode changed": "os.chmod('.env', 0o777)",
    "by the descriptor of its folder": "fd = os.open('.', os.O_RDONLY); os.stat('.env', dir_fd=fd)",
}


def without_atime(path):
    """The results of stat(2), without the access time: the test itself reads the file."""
    seen = path.stat()
    return seen.st_mode, seen.st_ino, seen.st_nlink, seen.st_uid, seen.st_gid, seen.st_size, seen.st_ctime_ns


HELPERS = """
def put(name):
    with open(name, "w") as file: file.write("mine")
def show(seen):
    assert "secret" not in str(seen) and seen != len("secret"), seen
"""


@pytest.mark.parametrize("how", REACHING)
def test_a_hidden_file_of_the_host_is_neither_read_nor_replaced(folder, how):
    (folder / ".git").mkdir()
    for hidden in (".env", ".git/config", "sub/.env"):
        (folder / hidden).write_text("secret")
    before = {path: without_atime(path) for path in folder.rglob(".*")}
    code = f"import os\n{HELPERS}try:\n    {REACHING[how]}\n    show([open(n).read() for n in ('x', '.env') if os.path.isfile(n)])"
    result = run(folder, f"{code}\nexcept OSError as error: print(error)\n")
    assert not any(b"secret" in (change.content or b"") + (change.old or b"") for change in result.files.changes)
    commit(result)
    assert {path: without_atime(path) for path in before} == before
    assert all((folder / name).read_text() == "secret" for name in (".env", ".git/config", "sub/.env"))
    assert {path.relative_to(folder).as_posix() for path in folder.rglob(".*")} == {".env", ".git", "sub/.env"}


#: Links to hidden files, which a program of the host might follow, or a later box mount.
LEADING = {
    "to a file": "os.symlink('.env', 'x')",
    "to a folder": "os.symlink('.git', 'x')",
    "below a folder": "os.symlink('./.git/config', 'x')",
    "in another folder": "os.mkdir('d'); os.symlink('../.git/config', 'd/x')",
    "by another link": "os.symlink('y', 'x'); os.symlink('.env', 'y')",
    "by the owner's link": "os.symlink('owners/config', 'x')",
    "by a hidden link": "os.symlink('.env', '.y'); os.symlink('.y', 'x')",
    "in the place of a folder": "os.unlink('sub/file'); os.rmdir('sub'); os.symlink('.git', 'sub')",
    "in the place of a link": "os.unlink('owners'); os.symlink('.env', 'owners')",
}


@pytest.fixture
def hiding(folder):
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("secret")
    (folder / ".env").write_text("secret")
    (folder / "owners").symlink_to(".git")
    return folder


@pytest.mark.parametrize("how", LEADING)
def test_no_link_is_committed_that_leads_to_a_hidden_name(hiding, how):
    result = run(hiding, f"import os\n{LEADING[how]}\nopen('new', 'w').close()")
    assert result.ok, result.stderr
    before = sorted(hiding.rglob("*"))
    with pytest.raises(proxybox.CommitRefused, match="leads to a name that is hidden from the box"):
        result.files.commit()
    assert sorted(hiding.rglob("*")) == before
    refused = [item for item in result.files.review().items if "is hidden from the box" in item.refusal]
    assert refused, "a review says so before"


@pytest.mark.parametrize("how", [how for how in LEADING if not how.startswith("by")])
def test_no_link_is_made_that_leads_to_a_hidden_name_where_the_host_is_written(hiding, how):
    (hiding / "main.py").write_text(f"import os\ntry: {LEADING[how]}\nexcept OSError as error: print(error.errno)")
    result = proxybox.run(hiding / "main.py", filesystem={"box": "rw"})
    assert result.stdout in (f"{errno.EACCES}\n", f"{errno.EPERM}\n"), result
    assert [path.name for path in hiding.rglob("*") if path.is_symlink()] in ([], ["owners"])


def test_links_to_hidden_names_are_made_in_the_box_and_those_of_nothing_hidden_are_committed(folder):
    result = run(folder, "import os\nos.symlink('.env', '.x'); os.symlink('./file', 'y'); os.symlink('a.b', 'z')")
    assert [change.name for change in result.files.commit()] == ["y", "z"]


def test_a_hidden_file_that_appears_meanwhile_is_not_seen(folder):
    """A hidden host file that appears while the box has a file of that name is not visible in the box: the name alone
    decides.
    """
    (folder / "main.py").write_text(
        f"import os\n{HELPERS}put('.env')\nos.mkdir('.git')\nprint('made', flush=True); input()\n"
        "print(open('.env').read(), os.listdir('.git'))\nos.unlink('.env'); os.rmdir('.git')\nprint(os.listdir('.'))\n"
    )

    def appear(text):
        if "made" in text:
            (folder / ".env").write_text("secret")
            (folder / ".git").mkdir()
            (folder / ".git" / "config").write_text("secret")

    result = proxybox.run(folder / "main.py", stdin="\n", on_stdout=appear)
    assert result.stdout == "made\nmine []\n['file', 'main.py', 'sub']\n", result.stderr
    assert result.files.commit() == []
    assert (folder / ".env").read_text() == (folder / ".git" / "config").read_text() == "secret"


@pytest.mark.cover(1)
@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_hidden_names_are_made_in_the_box_alone(folder, front_end):
    """The box can make hidden folders, files, renames and links, as caches do (mypy, pytest, sphinx). None is
    committed.
    """
    (folder / ".cache").mkdir()
    (folder / ".cache" / "hosts").write_text("secret")
    code = """
import os
for name in (".cache", ".cache/deep", "d", "d/.in"): os.mkdir(name)
with open("new.tmp", "w") as file: file.write("1")
os.rename("new.tmp", ".cache/deep/new")
os.link(".cache/deep/new", ".cache/linked"); os.symlink("new", ".cache/deep/link")
os.mkdir("prepared"); open("prepared/README", "w").close(); os.rename("prepared", ".prepared")
with open(".own", "w") as file: file.write("2")
os.rename(".own", "kept"); os.rename("d/.in", "d/out")
with open(".tmp", "w") as file: file.write("new")
os.rename(".tmp", "file")
print(sorted(os.listdir(".cache")), open(".cache/deep/link").read(), os.listdir(".prepared"))
"""
    (folder / "main.py").write_text(code)
    result = front_end(folder / "main.py", {})
    assert result.stdout == "['deep', 'linked'] 1 ['README']\n", result.stderr
    assert ".cache/deep/new" in result.files
    assert [change.name for change in result.files.commit()] == ["d", "d/out", "file", "kept"]
    assert (folder / "file").read_text() == "new"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob(".*")) == [".cache"]
    assert os.listdir(folder / ".cache") == ["hosts"]


def test_hidden_names_cannot_be_made_where_the_host_is_written(folder):
    (folder / "main.py").write_text("open('.new', 'w')")
    result = proxybox.run(folder / "main.py", filesystem={"box": "rw"})
    assert [(denial.errno, denial.reason) for denial in result.denials] == [
        ("EACCES", "names that begin with a dot are hidden in this mount")
    ]
    assert not list(folder.rglob(".*"))


def test_hidden_files_that_were_given_can_be_used_and_are_not_committed(folder):
    (folder / ".env").write_text("secret")
    code = """
import os
assert open(".env").read() == "given" and os.listdir(".d") == ["one"]
with open(".env", "a") as file: file.write(" and changed")
os.unlink(".d/one")
with open("new", "w") as file: file.write(open(".env").read())
"""
    (folder / "main.py").write_text(code)
    result = proxybox.run(folder / "main.py", files={".env": "given", ".d/one": "1"})
    assert result.ok, result.stderr
    assert [change.name for change in result.files.commit()] == ["new"]
    assert (folder / "new").read_text() == "given and changed"
    assert (folder / ".env").read_text() == "secret"
    assert not (folder / ".d").exists()


@pytest.mark.parametrize("made", [".cache", "d/.cache"])
def test_hidden_names_are_free_where_nothing_is_hidden(folder, made):
    code = f"import os; os.makedirs('d'); open({made!r}, 'w').write('1'); os.rename('file', '.file')"
    (folder / "main.py").write_text(code)
    result = proxybox.run(folder / "main.py", policy={"filesystem": {"hide_dotfiles": False}})
    assert result.ok, result.stderr
    result.files.commit()
    assert (folder / made).read_text() == "1"
    assert (folder / ".file").read_text() == "old"
    assert proxybox.run(f"import os; os.makedirs('/box/d'); open('/box/' + {made!r}, 'w')").ok


UNSEEN = {
    "renamed": "os.rename('pkg', 'lib')",
    "renamed over what looks empty": "os.mkdir('d'); os.rename('d', 'hollow')",
    "swapped": "os.rename('pkg', 'x'); os.rename('hollow', 'pkg'); os.rename('x', 'hollow')",
    "replaced by a link": "os.rename('pkg', 'lib'); os.symlink('lib', 'pkg')",
    "removed": "os.unlink('pkg/data.txt'); os.rmdir('pkg/in'); os.rmdir('pkg')",
    "moved into a new one": "os.mkdir('d'); os.rename('pkg', 'd/pkg')",
    "one above it renamed": "os.mkdir('d'); os.rename('pkg', 'd/pkg'); os.rename('d', 'e')",
    "replaced by a file": "os.rmdir('hollow'); open('hollow', 'w')",
}


@pytest.mark.parametrize("how", UNSEEN)
def test_a_folder_with_hidden_files_goes_nowhere(folder, how):
    (folder / "pkg" / "in").mkdir(parents=True)
    (folder / "pkg" / "data.txt").write_text("data")
    for hidden in ("pkg/.git", "pkg/in/.env", "hollow/.keep"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_text("hidden")
    os.mkfifo(folder / "pkg" / "in" / "fifo")
    result = run(folder, "import os\n" + UNSEEN[how])
    before = sorted(folder.rglob("*"))
    with pytest.raises(proxybox.CommitRefused) as caught:
        result.files.commit()
    pkg, hollow = "pkg: holds 3 entries that are hidden", "hollow: holds 1 entry that is hidden"
    assert any(reason.startswith((pkg, hollow)) for reason in caught.value.reasons), caught.value.reasons
    assert sorted(folder.rglob("*")) == before
    assert (folder / "pkg" / "data.txt").read_text() == "data"


def test_a_file_in_a_folder_that_was_closed(folder, open_the_way):
    open_the_way(folder)
    for path in (folder.parent / "outside", folder, *folder.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, 1000, 1000)
    result = run(folder, "import os; os.mkdir('d'); os.rename('file', 'd/file'); os.chmod('d', 0o555)")
    with as_user(1000), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder.parent / "outside"))
        written = result.files.commit()
        shutil.rmtree(folder.parent / "outside" / "proxybox")
    assert [(change.kind, change.name) for change in written] == [
        ("added", "d"),
        ("added", "d/file"),
        ("deleted", "file"),
    ]
    assert (folder / "d" / "file").read_text() == "old"
    assert (folder / "d").stat().st_mode & 0o777 == 0o555
    (folder / "d").chmod(0o755)


LINKED = {
    "beside it": ("os.link('file', 'twin')", {"file": "old", "twin": "old"}),
    "and written": ("os.link('file', 'twin'); open('twin', 'w').write('new')", {"file": "new", "twin": "new"}),
    "and removed": ("os.link('file', 'twin'); os.unlink('file')", {"file": None, "twin": "old"}),
    "and renamed": (
        "os.link('file', 'twin'); os.rename('twin', 'third')",
        {"file": "old", "third": "old", "twin": None},
    ),
    "and renamed back": (
        "os.link('file', 'twin'); os.unlink('file'); os.rename('twin', 'file')",
        {"file": "old", "twin": None},
    ),
    "over another": ("os.link('file', 'twin'); os.rename('twin', 'sub/file')", {"file": "old", "sub/file": "old"}),
    "over itself": ("os.link('file', 'twin'); os.rename('twin', 'file')", {"file": "old", "twin": "old"}),
    "in a new folder": ("os.mkdir('d'); os.link('file', 'd/twin')", {"file": "old", "d/twin": "old"}),
    "twice": (
        "os.link('file', 'twin'); os.link('twin', 'third'); os.unlink('twin')",
        {"file": "old", "third": "old", "twin": None},
    ),
}


@pytest.mark.parametrize("how", LINKED)
def test_hard_links_are_committed(folder, how):
    code, wanted = LINKED[how]
    result = run(folder, "import os\n" + code)
    result.files.commit()
    for name, content in wanted.items():
        path = folder / name
        assert (path.read_text() if path.exists() else None) == content, name


LARGE = {
    "moved": ("os.rename('many', 'more')", "more"),
    "moved down": ("os.mkdir('d'); os.rename('many', 'd/many')", "d/many"),
    "removed": ("import shutil; shutil.rmtree('many')", None),
}


@pytest.mark.cover(1)
@pytest.mark.parametrize("front_end", [*FRONT_ENDS, "session"])
@pytest.mark.parametrize("how", LARGE)
def test_a_folder_with_more_files_than_one_call_looks_at(folder, how, front_end):
    """A commit sees all changes in a large folder: it is bounded by the folder's size, not by the steps left to the
    last call.
    """
    (folder / "many").mkdir()
    for number in range(CALL // 24 + 20):
        (folder / "many" / f"f{number}").write_text(str(number))
    held = sorted(path.read_text() for path in (folder / "many").iterdir())
    code, place = LARGE[how]
    if front_end == "session":
        with proxybox.Sandbox() as sandbox, sandbox.session(folder=folder) as session:
            session.exec("import os; " + code, check=True)
            session.files.commit()
    else:
        (folder / "main.py").write_text("import os; " + code)
        front_end(folder / "main.py", {}).files.commit()
    assert not (folder / "many").exists()
    assert place is None or sorted(path.read_text() for path in (folder / place).iterdir()) == held


def test_a_folder_with_links_in_the_place_of_a_link(folder):
    """A link may be replaced by a folder of links: the old link's target does not count as part of that folder."""
    (folder / "l").symlink_to("sub")
    (folder / "out").symlink_to("../outside")
    code = """
import os
for name in ("l", "out"):
    os.unlink(name)
    os.mkdir(name)
    os.symlink("nothing", name + "/to-nothing")
    os.symlink("../sub", name + "/to-sub")
"""
    run(folder, code).files.commit()
    for name in ("l", "out"):
        assert os.readlink(folder / name / "to-nothing") == "nothing"
        assert (folder / name / "to-sub" / "file").read_text() == "old"
    untouched(folder)


def test_a_link_up_behind_a_name_by_two_commits(folder):
    """Two commits try to make a link that leads out: one adds `l -> d/e/../../f`, the other replaces d/e by a link."""
    (folder / "d" / "e").mkdir(parents=True)
    planting = run(
        folder,
        """
import errno, os
try: os.symlink("d/e/../../../outside", "l")
except OSError as error: print(errno.errorcode[error.errno])
""",
    )
    assert planting.stdout == "EPERM\n"
    assert planting.files.commit() == []
    (folder / "l").symlink_to("d/e/../../f")  # as another program may have left it
    turning = run(folder, "import os; os.rmdir('d/e'); os.symlink('.', 'd/e')")
    with pytest.raises(proxybox.CommitRefused, match=r"l: this link has \.\. behind a name"):
        turning.files.commit()
    assert (folder / "d" / "e").is_dir()
    (folder / "l").unlink()
    turning.files.commit()
    assert os.readlink(folder / "d" / "e") == "."


@pytest.mark.parametrize("hidden", [False, True])
def test_a_folder_with_links_up_is_moved_up_by_nobody(folder, hidden):
    inner = folder / "a" / "b" / (".c" if hidden else "c")
    inner.mkdir(parents=True)
    (inner / "inside").symlink_to("../x")
    code = """
import errno, os
try: os.rename("a/b", "b")
except OSError as error: print(errno.errorcode[error.errno])
os.rename("a/b", "a/same")
"""
    (folder / "main.py").write_text(code)
    assert proxybox.run(folder / "main.py", policy={"filesystem": {"box": "rw"}}).stdout == "", "it stays inside"
    (folder / "b").rename(folder / "a" / "b")
    for text in ("../../../x", "y/../x"):
        (folder / "a" / "b" / inner.name / "out").unlink(missing_ok=True)
        (folder / "a" / "b" / inner.name / "out").symlink_to(text)
        for box in ("rw",) if hidden else ("overlay", "rw"):
            result = proxybox.run(folder / "main.py", policy={"filesystem": {"box": box}})
            assert result.stdout == "EXDEV\n", (box, result)
        (folder / "a" / "same").rename(folder / "a" / "b")


# --- what looks like something else ---------------------------------------------------------------------------------


SAME = {
    "renamed": "os.rename('file', 'given')",
    "renamed by way of another name": "os.rename('file', 'x'); os.unlink('given'); os.rename('x', 'given')",
    "linked": "os.unlink('given'); os.link('file', 'given'); os.unlink('file')",
    "out of a folder": "os.rename('sub/file', 'given')",
    "into a folder": "os.rename('file', 'sub/given')",
    "over one that covers another": "os.rename('file', 'covering')",
}


@pytest.mark.cover(1)
@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("how", SAME)
def test_a_file_of_the_hosts_moved_over_a_given_one_that_holds_the_same(folder, how, front_end):
    (folder / "covering").write_text("another")
    (folder / "main.py").write_text("import os\n" + SAME[how])
    result = front_end(folder / "main.py", {"given": "old", "sub/given": "old", "covering": "old"})
    assert result.ok, result.stderr
    result.files.commit()
    held = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert sorted(held.values()).count("old") == 2, held


def test_a_given_file_is_not_committed_as_it_was_given_nor_by_a_copy(folder):
    given = {"given": "old", "sub/two": "2"}
    with contextlib.ExitStack() as held:
        sandbox = held.enter_context(proxybox.Sandbox({"session": {"branches": 1}}))
        one = held.enter_context(sandbox.session(folder=folder, files=given))
        other = held.enter_context(one.fork())
        for session in (one, other):
            assert session.exec("assert open('given').read() + open('sub/two').read() == 'old2'").ok
            assert list(session.files.changes) == []
        assert other.exec("import os; os.rename('file', 'given')").ok
        other.files.commit()
    assert (folder / "given").read_text() == "old"


PLACES = {
    "a link": lambda source: source.symlink_to(source.parent / "outside"),
    "another folder": lambda source: (source.parent / "outside").rename(source),
    "one of its own folders": lambda source: (source.parent / "moved" / "sub").rename(source),
}


@pytest.mark.cover(1)
@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("place", PLACES)
def test_another_folder_at_the_path_by_the_time_of_the_commit(folder, place, front_end):
    (folder / "main.py").write_text("open('evil', 'w').write('x')")
    result = front_end(folder / "main.py", {})
    assert result.ok, result.stderr
    folder.rename(folder.parent / "moved")
    PLACES[place](folder)
    with pytest.raises(proxybox.CommitRefused, match="another folder"):
        result.files.commit()
    assert not list(folder.parent.rglob("evil"))
    if folder.is_symlink():
        folder.unlink()
        (folder.parent / "moved").rename(folder)
        assert [change.name for change in result.files.commit()] == ["evil"]

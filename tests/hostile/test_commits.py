"""What a guest leaves behind, written to the host on the caller's word: nothing outside the folder, nothing set-id."""

import contextlib
import os
import shutil

import pytest

import proxybox
from proxybox import ProxyboxError


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
    result = proxybox.run(folder / "main.py", timeout=20)
    assert result.ok, result.stderr
    return result


def commit(result):
    """Whether all was written; a refusal is a ProxyboxError or an OSError, and nothing else."""
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

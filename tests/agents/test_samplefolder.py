"""The files that commands of one sample leave for each other: counted, bounded, and removed whatever their modes."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxybox
from proxybox.agents.samplefolder import SampleFolder, _entries, _size
from proxybox.controller.vfs.host.boundary import HostRoot
from proxybox.policies import Policy
from proxybox.program import Program


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SampleFolder]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = SampleFolder(Policy(limits={"disk": "1M", "files": 40}))
    yield made
    made.remove()
    assert os.listdir(tmp_path) == []


def run(folder: SampleFolder, code: str) -> proxybox.Result:
    with proxybox.Sandbox(folder.policy()) as box:
        return box.run_program(Program(words=("-c", code), folder=folder.box))


def test_files_stay_from_command_to_command_with_folders_links_and_modes(folder: SampleFolder) -> None:
    made = """
import os
os.makedirs('/tmp/a/b'); os.chmod('/tmp/a', 0o750)
open('.x', 'w').write('x'); open('/tmp/y', 'w').close(); open(os.path.expanduser('~/z'), 'w').close()
os.symlink('.x', 'link'); os.chmod('.x', 0o4711)
"""
    assert run(folder, made).ok
    seen = (
        "import os; print(*map(sorted, map(os.listdir, ['.', '/tmp', os.path.expanduser('~')])), os.readlink('link'))"
    )
    assert run(folder, seen).stdout == "['.x', 'link'] ['a', 'y'] ['z'] .x\n"
    modes = "import os; print(oct(os.stat('.x').st_mode), oct(os.stat('/tmp/a').st_mode))"
    assert run(folder, modes).stdout == "0o100711 0o40750\n"
    assert run(folder, "import os; os.remove('.x'); os.remove('link')").ok
    assert run(folder, "import os; print(os.listdir('.'))").stdout == "[]\n"


def test_all_commands_together_have_what_the_policy_gives(folder: SampleFolder) -> None:
    write = "with open('{0}', 'wb') as f: f.write(bytes({1}))"
    assert run(folder, write.format("a", 700_000)).ok
    assert run(folder, write.format("/tmp/b", 700_000)).status == "disk_limit"
    assert run(folder, "import os; os.remove('a'); os.remove('/tmp/b')").ok
    assert run(folder, write.format("/tmp/b", 700_000)).ok
    assert run(folder, "for n in range(30): open(f'f{n}', 'w').close()").ok
    assert run(folder, "for n in range(30): open(f'g{n}', 'w').close()").status == "disk_limit"
    assert run(folder, "print(1)").ok


def test_a_folder_that_nobody_can_read_hides_no_files(folder: SampleFolder) -> None:
    hide = "import os\nos.mkdir('d')\nwith open('d/f', 'wb') as f: f.write(bytes(900_000))\nos.chmod('d', 0)"
    assert run(folder, hide).ok
    assert run(folder, "with open('g', 'wb') as f: f.write(bytes(900_000))").status == "disk_limit"


def test_folders_deeper_than_a_path_leave_no_room_and_are_removed() -> None:
    folder = SampleFolder(Policy(limits={"disk": "8M", "files": 5000}))
    tower = "import os\nos.mkdir('{0}'); os.chdir('{0}')\nfor n in range({1}): os.mkdir('d' * 200); os.chdir('d' * 200)"
    try:
        assert run(folder, tower.format("one", 19)).ok
        assert run(folder, tower.format("two", 4)).ok
        down = "import os\nos.chdir('one')\nfor n in range(19): os.chdir('d' * 200)\nos.rename('/box/two', 'two')"
        assert run(folder, down).ok
        assert run(folder, "open('f', 'w').close()").status == "disk_limit"
    finally:
        folder.remove()
    assert not os.path.exists(folder.box)


def test_what_another_command_removes_meanwhile_is_not_counted(tmp_path: Path) -> None:
    root = HostRoot(tmp_path)
    (tmp_path / "file").write_text("x")
    assert (_entries(root, b"gone"), _entries(root, b"file/below")) == ([], [])
    assert (_size(root, b"gone"), _size(root, b"file/below")) == (0, 0)
    root.close()


def test_what_lies_there_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    os.chmod(kept / "file", 0o400)
    os.chmod(kept, 0o500)
    folder = SampleFolder(Policy())
    assert run(
        folder, "import os\nfor n in 'ab': os.mkdir(n); os.mkdir(n + '/c'); os.chmod(n + '/c', 0); os.chmod(n, 0)"
    ).ok
    os.symlink(kept, os.path.join(folder.box, "out"))  # a box cannot make it
    os.symlink(kept / "file", os.path.join(folder.box, "file"))
    folder.remove()
    assert (kept / "file").read_text() == "kept"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o500
    os.chmod(kept, 0o700)
    assert stat.S_IMODE((kept / "file").stat().st_mode) == 0o400


def test_a_link_out_of_the_folder_cannot_be_made(folder: SampleFolder) -> None:
    for target in ("/etc/passwd", "../../../etc/passwd"):
        result = run(folder, f"import os; os.symlink({target!r}, 'out')")
        assert result.error is not None
        assert result.error.type == "PermissionError"


def test_two_samples_share_nothing() -> None:
    one, other = SampleFolder(Policy()), SampleFolder(Policy())
    try:
        assert run(one, "for p in ('f', '/tmp/f', '/home/user/f'): open(p, 'w').close()").ok
        assert run(other, "import os; print(*map(os.listdir, ['.', '/tmp', '/home/user']))").stdout == "[] [] []\n"
    finally:
        one.remove()
        other.remove()


def test_a_mount_of_the_policy_goes_before_ours() -> None:
    policy = Policy(filesystem=[proxybox.Mount("/tmp", {"given": "x"})], environment={"home": "/home/ada"})
    folder = SampleFolder(policy)
    try:
        assert run(folder, "import os; print(os.listdir('/tmp'))").stdout == "['given']\n"
        assert run(folder, "import os; open('/home/ada/f', 'w').close()").ok
        assert run(folder, "import os; print(os.listdir(os.path.expanduser('~')))").stdout == "['f']\n"
    finally:
        folder.remove()

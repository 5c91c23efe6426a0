"""Writable mounts and overlays of real boxes: rights of new files, and set-id bits of written ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import proxybox
from tests.vfs import rights
from tests.vfs.rights import CAPABILITY, FOR_NEW, NET_RAW, as_root

#: Each line is one call, which the test also makes beside it.
PROGRAM = """
import os
os.umask(0o027)
for mode in (0o666, 0o600, 0o744):
    os.close(os.open(f"d/{name}-{mode:o}", os.O_CREAT | os.O_WRONLY, mode))
    os.mkdir(f"d/{name}-{mode:o}.d", mode | 0o700)
    os.close(os.open(f"d/{name}-{mode:o}.d/in", os.O_CREAT | os.O_WRONLY, mode))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if why := rights.why_not(tmp_path):
        pytest.skip(why)
    (tmp_path / "d").mkdir()
    return tmp_path


@pytest.mark.parametrize("default", [FOR_NEW, "user::rwx,group::r-x,other::--x", None], ids=["acl", "short", "none"])
@pytest.mark.parametrize("box", ["rw", "overlay"])
def test_new_files_of_a_program_are_what_open_makes(folder, box, default):
    rights.set_default(folder / "d", default)
    (folder / "main.py").write_text(f"name = 'boxed'\n{PROGRAM}")
    result = proxybox.run(folder / "main.py", policy={"filesystem": {"box": box}})
    assert result.ok, result.stderr
    if box == "overlay":
        result.files.commit()
    there, umask = os.getcwd(), os.umask(0)
    os.chdir(folder)
    try:
        exec(PROGRAM, {"name": "native"})
    finally:
        os.chdir(there)
        os.umask(umask)
    found = rights.of_all(folder / "d")
    assert len(found) == 18
    for name in found:
        assert found[name] == found[name.replace("boxed", "native")], name


WRITES = {
    "write": lambda box, name: box.write(name, b"evil"),
    "append": lambda box, name: box.open(name, os.O_WRONLY | os.O_APPEND).write(b"evil"),
    "truncate": lambda box, name: box.truncate(name, 1),
}


@pytest.mark.parametrize("change", WRITES)
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755, 0o2644])
def test_a_set_id_file_that_a_box_writes_to_loses_these_bits(folder, new_box, change, mode):
    """The kernel does not remove these bits for root. If they stayed, every user would run the box's data as the file's
    owner.
    """
    (folder / "tool").write_bytes(b"#!tool")
    (folder / "tool").chmod(mode)
    with new_box("rw", folder) as box:
        box.read(b"tool")
        assert (folder / "tool").stat().st_mode & 0o7777 == mode
        WRITES[change](box, b"tool")
        assert (folder / "tool").stat().st_mode & 0o7777 == mode & 0o777


@as_root
def test_capabilities_of_a_file_that_a_box_writes_to_go(folder, new_box):
    (folder / "tool").write_bytes(b"#!tool")
    os.setxattr(folder / "tool", CAPABILITY, NET_RAW)
    with new_box("rw", folder) as box:
        box.write(b"tool", b"evil")
    assert rights.of(folder / "tool")[3] == {}


def test_a_folder_keeps_the_set_group_id_bit_that_the_box_was_not_shown(folder, new_box):
    (folder / "d").chmod(0o2775)
    with new_box("rw", folder) as box:
        assert box.stat(b"d").mode & 0o7777 == 0o775
        box.chmod(b"d", 0o755)
        box.mkdir(b"d/in", 0o700)
    assert (folder / "d").stat().st_mode & 0o7777 == 0o2755
    assert (folder / "d" / "in").stat().st_mode & 0o7777 == 0o2700


@pytest.mark.parametrize("call", ["write", "rename", "chmod"])
def test_what_a_box_changes_in_place_keeps_its_acl(folder, new_box, call):
    (folder / "f").write_bytes(b"x")
    (folder / "f").chmod(0o660)
    os.setxattr(folder / "f", rights.ACCESS, rights.acl(rights.SOME_REFUSED))
    os.setxattr(folder / "f", "user.note", b"kept")
    before = rights.of(folder / "f")
    with new_box("rw", folder) as box:
        if call == "write":
            box.write(b"f", b"new")
        elif call == "rename":
            box.rename(b"f", b"g")
            box.rename(b"g", b"f")
        else:
            box.chmod(b"f", 0o600)
            box.chmod(b"f", 0o660)
    assert rights.of(folder / "f") == before

"""The tour's rule about paths, and programs that try to avoid it: by other spellings, links, descriptors."""

import re
import textwrap
from pathlib import Path
from typing import Any

import proxybox
from proxybox.policies import Mount

TOUR = Path(__file__).resolve().parents[2] / "docs/tour.md"
FILES = {".secret": "S", ".folder/file": "S", "plain": "P", "d/file": "F"}
#: Each tries to read or to change a dotfile; none may succeed.
WAYS = {
    "absolute": "read('/box/.secret')",
    "relative": "read('.secret')",
    "through .": "read('./.secret')",
    "through ..": "read('d/../.secret')",
    "doubled slashes": "read('//box//.secret')",
    "through /tmp": "read('/tmp/../box/./.secret')",
    "in a hidden folder": "read('.folder/file')",
    "/proc/self/cwd": "read('/proc/self/cwd/.secret')",
    "/proc/self/root": "read('/proc/self/root/box/.secret')",
    "/proc/self/fd": "read(f'/proc/self/fd/{folder}/../.secret')",
    "/dev/fd": "read(f'/dev/fd/{folder}/../.secret')",
    "dirfd": "os.open('../.secret', os.O_RDONLY, dir_fd=folder)",
    "dirfd of the folder": "os.open('.secret', os.O_RDONLY, dir_fd=box)",
    "chdir": "os.chdir('d'); read('../.secret')",
    "fchdir": "os.fchdir(folder); read('../.secret')",
    "a link": "os.symlink('.secret', 'l1'); read('l1')",
    "a link to a link": "os.symlink('.secret', 'l2'); os.symlink('l2', 'd/l3'.replace('d/', '')); read('l3')",
    "a link to a folder": "os.symlink('/box', 'd/up'); read('d/up/.secret')",
    "a link into a hidden folder": "os.symlink('.folder', 'l4'); read('l4/file')",
    "a link through /proc": "os.symlink('/proc/self/cwd/.secret', 'l5'); read('l5')",
    "a hidden link": "os.symlink('plain', '.link')",
    "stat": "os.stat('.secret')",
    "lstat by a link": "os.symlink('/box', 'l6'); os.lstat('l6/.secret')",
    "a new name": "os.link('.secret', 'hard')",
    "moved": "os.rename('.secret', 'moved')",
    "moved there": "os.rename('plain', '.plain')",
    "moved by dirfd": "os.rename('../.secret', 'moved', src_dir_fd=folder, dst_dir_fd=box)",
    "removed": "os.unlink('d/../.secret')",
    "made": "os.mkdir('.made')",
    "written through a dangling link": "os.symlink('.new', 'l7'); open('l7', 'w')",
    "truncated": "os.truncate('.secret', 0)",
    "chmod": "os.chmod('.secret', 0o777)",
    "a name with a long way": "read('d/../' * 400 + '.secret')",
}
HELD = """
import os
folder, box = os.open("d", os.O_RDONLY), os.open("/box", os.O_RDONLY)
def read(path):
    with open(path) as file:
        return file.read()
for name, way in WAYS.items():
    os.chdir("/box")
    try:
        exec(way)
        print("THROUGH", name)
    except PermissionError:
        pass
    except OSError as error:
        print("NOT BY THE RULE", name, error)
os.chdir("/box")
print(read("plain"), read("d/file"), read("d/../plain"), os.listdir("d"), os.path.exists("/proc/self/fd/0"))
"""


def rule() -> Any:
    """The rule from the tour's text."""
    text = TOUR.read_text()
    found = re.search(r"^    def no_dotfiles.*?(?=\n\n    proxybox\.Sandbox)", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    names: dict[str, Any] = {"proxybox": proxybox}
    exec("import errno\n" + textwrap.dedent(found.group()), names)
    return names["no_dotfiles"]


def test_no_other_spelling_goes_around_the_rule_of_the_tour(hostile):
    result = proxybox.run(
        f"WAYS = {WAYS!r}\n{HELD}", files=FILES, interceptors=[rule()], limits={"wall_time": 120, "cpu_time": 60}
    )
    assert result.stdout == "P F P ['file', 'up'] True\n", result
    assert {denial.reason for denial in result.denials} == {"dotfiles are not for you"}
    changed = {change.name for change in result.files.changes} - {".folder"}  # this file was given to the box
    assert not [name for name in changed if "." in name or name in ("hard", "moved")]


def test_where_the_paths_of_calls_lead(hostile):
    """An interceptor sees each path of a call as written, the links on the way, and the end."""
    seen = {}

    def watch(call):
        if call.paths and call.paths[0].startswith((b"/box/", b"/data/")):
            seen.setdefault(call.name, []).append(call.paths)

    code = """
import os
os.symlink("../data/sub", "first")
os.symlink("/box/first", "second")
os.stat("second/x")
os.stat("second/../y") if os.path.exists("/data/y") else None
os.lstat("second")
os.rename("first", "d/moved")
fd = os.open("/data/sub", os.O_RDONLY)
os.stat(f"/proc/self/fd/{fd}/x")
os.stat("x", dir_fd=fd)
for path in ("nothing/../else", "second/no/../such"):
    try: os.stat(path)
    except OSError: pass
"""
    tree = {"sub": {"x": "1"}, "y": "2"}
    result = proxybox.run(
        code, files={"d/file": ""}, interceptors=[watch], filesystem={"mounts": [Mount("/data", tree)]},
        limits={"wall_time": 120, "cpu_time": 60},
    )  # fmt: skip
    assert result.ok, result
    stats = [paths for name in ("newfstatat", "stat") for paths in seen.get(name, [])]
    chain = (b"/box/second", b"/box/first", b"/data/sub")
    assert (b"/box/second/x", *chain[:2], b"/data/sub/x") in stats
    assert (b"/box/y", *chain[:2], b"/data/y") in stats  # as written, and after the links
    assert (b"/data/sub/x",) in stats
    assert (b"/box/else", b"/box/else") not in stats and (b"/box/else",) in stats
    assert seen["symlink"] == [(b"/box/first",), (b"/box/second",)]
    assert (b"/box/first", b"/data/sub", b"/box/d/moved") in seen["rename"]

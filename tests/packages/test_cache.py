"""Files that others may have put into the cache, and files that killed installations leave there."""

import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from proxybox.controller.removal import remove_folder
from proxybox.errors import PackagesError
from proxybox.packages import cache, helper

SOMEBODY = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders of another user")


def whole(folder: str) -> str:
    """Makes a complete folder of packages in the cache, and returns its path."""
    with cache.work_for(folder) as work:
        os.mkdir(f"{work}/made", 0o755)
        cache.finish(f"{work}/made", folder, {"guest": "pypy3.11", "requirements": []})
    return folder


def test_a_cache_of_our_own(cache_folder: Path) -> None:
    folder = whole(cache.place("pypy3.11-0"))
    assert cache.is_there(folder)
    assert os.listdir(cache_folder / "proxybox/packages") == ["pypy3.11-0"]
    assert not stat.S_IMODE(os.stat(cache_folder / "proxybox/packages").st_mode) & 0o022


@pytest.mark.parametrize("name", ["", "proxybox", "proxybox/packages", "proxybox/wheels"])
def test_a_cache_that_anybody_may_write_to(cache_folder: Path, name: str) -> None:
    (cache_folder / "proxybox/packages").mkdir(parents=True)
    (cache_folder / "proxybox/wheels").mkdir()
    (cache_folder / name).chmod(0o777)
    with pytest.raises(PackagesError, match="other users can write there: set XDG_CACHE_HOME"):
        (cache.wheel if name == "proxybox/wheels" else cache.place)("0")


def test_a_cache_beside_those_of_others(cache_folder: Path) -> None:
    """As in /tmp: each user's files are their own."""
    cache_folder.chmod(0o1777)
    assert cache.is_there(whole(cache.place("pypy3.11-0")))


@needs_root
@pytest.mark.parametrize("name", ["proxybox", "proxybox/packages", "proxybox/packages/pypy3.11-0"])
@pytest.mark.parametrize("by_link", [False, True])
def test_a_cache_that_another_user_made(cache_folder: Path, name: str, by_link: bool, tmp_path: Path) -> None:
    """Its packages would run in the boxes of everybody with the same requirements."""
    cache_folder.chmod(0o1777)
    whole(cache.place("pypy3.11-0"))
    place = cache_folder / name
    if by_link:
        place.rename(tmp_path / "own")
        place.symlink_to(tmp_path / "own")
    os.chown(place, SOMEBODY, SOMEBODY, follow_symlinks=False)
    with pytest.raises(PackagesError, match="other users can write there"):
        cache.is_there(cache.place("pypy3.11-0"))


@needs_root
def test_a_cache_that_root_made_serves_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an image: other users read the packages, but cannot install more there."""
    folder = tempfile.mkdtemp()  # only root can enter the folders of tests
    os.chmod(folder, 0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", folder)
    whole(cache.place("pypy3.11-0"))
    os.seteuid(SOMEBODY)
    try:
        assert cache.is_there(cache.place("pypy3.11-0"))
        with pytest.raises(PermissionError):
            whole(cache.place("pypy3.11-1"))
    finally:
        os.seteuid(0)
        remove_folder(folder)


def test_a_fifo_in_the_place_of_a_wheel(cache_folder: Path) -> None:
    assert cache.wheel("0" * 64) == ""
    os.mkfifo(cache_folder / "proxybox/wheels" / ("0" * 64))
    assert cache.wheel("0" * 64) == ""
    (cache_folder / "proxybox/wheels" / ("1" * 64)).mkdir()
    (cache_folder / "proxybox/wheels" / ("2" * 64)).touch()
    cache.prune()
    assert sorted(os.listdir(cache_folder / "proxybox/wheels")) == ["1" * 64]


# --- what goes --------------------------------------------------------------------------------------------------------


def test_what_was_not_used_for_long_is_pruned(cache_folder: Path) -> None:
    packages, wheels = cache_folder / "proxybox/packages", cache_folder / "proxybox/wheels"
    for name, age in (("new", 10), ("old", 3000), ("older", 4000)):
        whole(cache.place(name))
        assert cache.wheel(name) == ""
        (wheels / name).touch()
        for path in (packages / name / cache.TOLD, wheels / name):
            os.utime(path, (time.time() - age,) * 2)
    for name, text in (
        ("broken", "{"),
        ("list", "[]"),
        ("empty", "{}"),
        (".hidden", '{"guest": "", "requirements": []}'),
    ):
        (packages / name).mkdir()
        (packages / name / cache.TOLD).write_text(text)
    (packages / "bare").mkdir()
    assert [os.path.basename(each.folder) for each in cache.cached()] == ["older", "old", "new"]
    assert [os.path.basename(each.folder) for each in cache.prune(2000)] == ["older", "old"]
    assert sorted(os.listdir(packages)) == [".hidden", "bare", "broken", "empty", "list", "new"]
    assert os.listdir(wheels) == ["new"]
    for path in (packages / "new" / cache.TOLD, wheels / "new"):
        assert path.stat().st_mtime < time.time() - 5
    assert cache.is_there(cache.place("new"))
    assert cache.wheel("new") == str(wheels / "new")
    assert cache.prune(5) == []
    assert os.listdir(wheels) == ["new"]


def test_where_somebody_works_is_not_swept(cache_folder: Path) -> None:
    mask = os.umask(0)
    with cache.work_for(cache.place("x")) as work:
        os.utime(work, (0, 0))
        cache.prune()
        assert os.path.isdir(work)
    assert not os.path.exists(work)
    for unused, age in (("just made", 0), ("left", 60)):
        folder = cache_folder / "proxybox/packages" / f"{os.path.basename(work)[:5]}{unused}"
        folder.mkdir()
        os.utime(folder, (time.time() - age,) * 2)
    cache.prune()
    assert [name.endswith("just made") for name in os.listdir(cache_folder / "proxybox/packages")] == [True]
    os.umask(mask)
    assert stat.S_IMODE((cache_folder / "proxybox").stat().st_mode) == 0o755


def test_another_process_may_be_faster(cache_folder: Path) -> None:
    folder = whole(cache.place("x"))
    before = os.stat(folder).st_ino
    assert os.stat(whole(folder)).st_ino == before
    (Path(folder) / cache.TOLD).unlink()
    (Path(folder) / "other").touch()
    with pytest.raises(OSError, match="not empty"):
        whole(folder)


@pytest.mark.parametrize(("files", "size", "deepest", "words"), [
    (6, 13, 2, ""), (5, 13, 2, "take more than 0 GiB, or 5 files"), (6, 12, 2, "take more than"),
    (6, 13, 1, "more than 1 levels deep"),
])  # fmt: skip
def test_what_an_installation_may_have_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, size: int, deepest: int, words: str
) -> None:
    """Each file, folder and link counts; links are not followed."""
    (tmp_path / "work/a/b").mkdir(parents=True)
    (tmp_path / "outside/c/d/e").mkdir(parents=True)
    for name in ("one", "a/two"):
        (tmp_path / "work" / name).write_text("x")
    for name, target in (("a/b/three", "o"), ("link", "../outside")):
        (tmp_path / "work" / name).symlink_to(target)
    monkeypatch.setattr(helper, "_MOST_FILES", files)
    monkeypatch.setattr(helper, "_MOST_BYTES", size)
    monkeypatch.setattr(helper, "_DEEPEST", deepest)
    assert words in helper._too_much(str(tmp_path / "work"))
    assert bool(helper._too_much(str(tmp_path / "work"))) is bool(words)
    assert helper._too_much(str(tmp_path / "none")) == ""
    assert (
        helper._too_much(str(tmp_path / "work/one")) == "they have folders that cannot be looked into: Not a directory"
    )


# --- what is left -----------------------------------------------------------------------------------------------------

DEEP = 3000


def deep(folder: Path) -> None:
    """Makes more levels of folders than Python can recurse into, or than a path has bytes."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT, dir_fd=fd))
    os.fchmod(fd, 0)
    os.close(fd)


def test_deep_folders_are_removed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (tmp_path / "outside").chmod(0o711)
    deep(tmp_path / "outside")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to(tmp_path / "outside")
    deep(tmp_path / "folder")
    remove_folder(str(tmp_path / "folder"))
    assert not (tmp_path / "folder").exists()
    assert (tmp_path / "outside/file").exists()
    assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o711
    remove_folder(str(tmp_path / "outside"))


def test_what_a_killed_installation_leaves_hinders_no_other(cache_folder: Path) -> None:
    """For any files that a wheel has put there."""
    program = (
        "import os, signal; from pathlib import Path; from proxybox.packages import cache\n"
        "from tests.packages.test_cache import deep\n"
        "with cache.work_for(cache.place('x')) as work: deep(Path(work)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == -9
    (left,) = (cache_folder / "proxybox/packages").iterdir()
    os.utime(left, (0, 0))
    whole(cache.place("pypy3.11-0"))
    assert os.listdir(cache_folder / "proxybox/packages") == ["pypy3.11-0"]

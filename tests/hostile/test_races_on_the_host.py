"""A host thread swaps files in a mount while the guest opens them: the guest never gets a file from outside."""

import contextlib
import os
import threading

import pytest

from proxybox import Mount

SECRET = "the host's own secret"


@contextlib.contextmanager
def swapping(swap):
    """Calls `swap` repeatedly until the end of the block."""
    over = threading.Event()

    def work():
        while not over.is_set():
            swap()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def host(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text(SECRET)
    folder = tmp_path / "mounted"
    (folder / "folder").mkdir(parents=True)
    (folder / "folder" / "file").write_text("plain")
    (folder / "file").write_text("plain")
    for each in (folder, folder / "folder"):
        each.chmod(0o777)
    return folder


@pytest.fixture(autouse=True, params=["openat2", "walk"])
def _way_of_opening(request, monkeypatch):
    """Both ways in which host paths are opened: the second is for kernels and filters without openat2."""
    if request.param == "walk":
        monkeypatch.setattr("proxybox.controller.vfs.host.boundary._SYS_OPENAT2", 1023)


def exchange(one, other, between):
    """Swaps two names, one of which may be a link."""
    os.rename(one, between)
    os.rename(other, one)
    os.rename(between, other)


READ = """
import os, time
seen = set()
end = time.monotonic() + 0.4
while time.monotonic() < end or len(seen) < 3:
    for name in ("folder/file", "file", "folder/../file"):
        for way in (lambda p: open(p).read(), lambda p: str(os.stat(p).st_size), lambda p: " ".join(os.listdir(os.path.dirname(p)))):
            try: seen.add(way("/data/" + name))
            except OSError as error: seen.add(error.errno)
print(seen)
"""


@pytest.mark.parametrize("mode", ["ro", "rw", "overlay"])
def test_a_folder_swapped_for_a_link_that_leads_out(hostile, host, mode):
    (host / "link").symlink_to(host.parent / "outside")
    with swapping(lambda: exchange(host / "folder", host / "link", host / "between")):
        output = hostile.ok(READ, filesystem={"mounts": [Mount(target="/data", source=str(host), mode=mode)]})
    assert SECRET not in output
    assert {"plain", 2} & eval(output) and len(eval(output)) > 2, "the race was not run"
    assert f"'{len(SECRET)}'" not in output


@pytest.mark.parametrize("mode", ["ro", "rw", "overlay"])
def test_a_file_swapped_for_a_link_or_a_fifo(hostile, host, mode):
    (host / "link").symlink_to(host.parent / "outside" / "file")
    os.mkfifo(host / "fifo")

    def swap():
        exchange(host / "file", host / "link", host / "between")
        exchange(host / "file", host / "fifo", host / "between")

    with swapping(swap):
        output = hostile.ok(READ, filesystem={"mounts": [Mount(target="/data", source=str(host), mode=mode)]})
    assert SECRET not in output


def test_writing_where_a_link_may_stand(hostile, host):
    outside = host.parent / "outside"
    (host / "link").symlink_to(outside)
    with swapping(lambda: exchange(host / "folder", host / "link", host / "between")):
        hostile.ok(
            """
import os, time
end = time.monotonic() + 0.4
number = 0
while time.monotonic() < end:
    number += 1
    for way in (lambda: open("/data/folder/file", "w").write("stolen"), lambda: open(f"/data/folder/n{number}", "w").close(),
                lambda: os.unlink("/data/folder/file"), lambda: os.mkdir(f"/data/folder/d{number}"), lambda: os.chmod("/data/folder/file", 0),
                lambda: os.rename("/data/file", "/data/folder/file"), lambda: os.symlink("x", f"/data/folder/s{number}")):
        try: way()
        except OSError: pass
""",
            filesystem={"mounts": [Mount(target="/data", source=str(host), mode="rw")]},
        )
    assert os.listdir(outside) == ["file"]
    assert (outside / "file").read_text() == SECRET


def test_a_file_that_shrinks_while_it_is_mapped_and_read(hostile, host):
    """A controller that mapped it would die of SIGBUS."""
    path = host / "file"

    def swap():
        path.write_bytes(b"x" * 1_000_000)
        os.truncate(path, 0)

    with swapping(swap):
        output = hostile.ok(
            """
import mmap, os
for _ in range(60):
    with open("/data/file", "rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped: sum(mapped[::4096])
        except (ValueError, OSError): pass
        file.read()
print("done")
""",
            filesystem={"mounts": [Mount(target="/data", source=str(host), mode="ro")]},
        )
    assert output == "done\n"

"""Data that a record omits: it is not in the file, and a replay that needs it says so."""

from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import HostFunction
from tests.recordings.rewriting import frames_of

EACH_GUEST = True
SECRET = "a secret of forty characters, or nearly so"


def whole(path: Path) -> bytes:
    """Returns all bytes of a record, uncompressed."""
    return b"".join(frame.data for frame in frames_of(path))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "in.txt").write_text(SECRET * 300)
    return folder


READS = """
import mmap, os
text = open("/data/in.txt").read()
fd = os.open("/data/in.txt", os.O_RDONLY)
parts = os.pread(fd, 50, 3), os.read(fd, 70), mmap.mmap(fd, 0, prot=mmap.PROT_READ)[:99]
print(len(text), len(parts))
"""


@pytest.mark.parametrize("mode", ["ro", "rw", "overlay"])
def test_contents_of_a_mount_are_not_in_the_record(mode: str, data: Path, tmp_path: Path) -> None:
    mounts = [{"target": "/data", "source": str(data), "mode": mode}]
    records = {}
    for redact in ((), ("/data",)):
        path = tmp_path / f"{len(redact)}.pbx"
        with proxybox.Sandbox(filesystem={"mounts": mounts}, record_redact=redact) as box:
            result = box.run(READS, record=path)
        assert result.stdout == f"{len(SECRET) * 300} 3\n", result.stderr
        records[redact] = whole(path)
    assert SECRET.encode() in records[()]
    assert SECRET.encode()[:20] not in records["/data",]
    assert SECRET.encode()[3:23] not in records["/data",]
    done = proxybox.replay(tmp_path / "1.pbx")
    assert done.divergence is not None
    assert "leaves out" in done.divergence.why


def test_values_of_variables_are_not_in_the_record(tmp_path: Path) -> None:
    path = tmp_path / "a.pbx"
    code = "import os; print(len(os.environ['TOKEN']), len(open('/proc/self/environ').read()) > 50)"
    with proxybox.Sandbox(environment={"variables": {"TOKEN": SECRET}}, record_redact=["TOKEN"]) as box:
        assert box.run(code, record=path).stdout == f"{len(SECRET)} True\n"
    assert SECRET.encode() not in whole(path)
    with proxybox.Record(path) as record:
        assert record.environment["TOKEN"] == ""
    assert not proxybox.replay(path).ok


@pytest.mark.parametrize("size", [1, 5000])
def test_answers_of_functions_are_not_in_the_record(size: int, tmp_path: Path) -> None:
    path = tmp_path / "a.pbx"
    functions: dict[str, Any] = {"ask": HostFunction(lambda: SECRET * size), "other": HostFunction(lambda: "said " * 9)}
    with proxybox.Sandbox(functions=functions, record_redact=["ask"]) as box:
        result = box.run("import host; print(len(host.other()), len(host.ask()), len(host.other()))", record=path)
    assert result.stdout == f"45 {len(SECRET) * size} 45\n"
    assert SECRET.encode()[:20] not in whole(path)
    assert b"said said" in whole(path)


@pytest.mark.parametrize("mode", ["ro", "rw", "overlay"])
def test_paths_of_the_host_are_not_in_the_record(mode: str, data: Path, tmp_path: Path) -> None:
    mounts = [{"target": "/data", "source": str(data), "mode": mode}, {"target": "/m", "source": {"a": "x"}}]
    code = "print(open('/data/in.txt').read(10)); open('x', 'w')"
    (tmp_path / "main.py").write_text(code)
    for redact in ((), ("@host",)):
        path = tmp_path / f"{len(redact)}.pbx"
        with proxybox.Sandbox(filesystem={"mounts": mounts}, record_redact=redact) as box:
            assert box.run(tmp_path / "main.py", record=path).ok
        assert (str(data).encode() in whole(path)) == (not redact)
        assert (str(tmp_path).encode() in whole(path)) == (not redact)
        assert proxybox.replay(path).ok
    with proxybox.Record(path) as record:
        assert [(each.target, each.mode) for each in record.policy.filesystem.mounts] == [("/data", mode), ("/m", "ro")]


def test_what_the_program_does_with_it_is_recorded(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pbx"
    with proxybox.Sandbox(filesystem={"mounts": [f"{data}:/data"]}, record_redact=["/data"]) as box:
        box.run("print(open('/data/in.txt').read(10))", record=path)
    assert SECRET[:10].encode() in whole(path)


@pytest.mark.parametrize("name", ["/nowhere", "/etc/passwd", "NOTHING", ""])
def test_a_name_that_means_nothing_is_refused(name: str, tmp_path: Path) -> None:
    with proxybox.Sandbox(record_redact=[name]) as box:
        if name == "/etc/passwd":
            assert box.run("1", record=tmp_path / "a.pbx").ok  # a mount that every box has
        else:
            with pytest.raises(proxybox.PolicyError, match="redact"):
                box.run("1", record=tmp_path / "a.pbx")


def test_names_are_texts(tmp_path: Path) -> None:
    with proxybox.Sandbox(record_redact=[3]) as box, pytest.raises(TypeError, match="record_redact"):  # type: ignore[list-item]
        box.run("1", record=tmp_path / "a.pbx")
    with proxybox.Sandbox(record_redact="abc") as box, pytest.raises(TypeError, match="record_redact"):
        box.run("1", record=tmp_path / "a.pbx")


def test_the_test_itself_sees_what_is_packed(tmp_path: Path) -> None:
    path = tmp_path / "a.pbx"
    proxybox.run(f"print({SECRET!r})", record=path)
    assert SECRET.encode() in whole(path)

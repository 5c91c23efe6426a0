"""Downloads: how often they are tried, which hashes they must have, and which host gets a password."""

import base64
import contextlib
import hashlib
import http.client
import io
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import attrs
import pytest

from proxybox.packages import downloading
from proxybox.packages.downloading import IndexOpener, fetched
from proxybox.packages.refusing import NoArchive
from tests.packages.wheels import Index

DATA = b"x" * 300_000
RIGHT = "sha256:" + hashlib.sha256(DATA).hexdigest()
OTHER = "sha512:" + hashlib.sha512(DATA).hexdigest()
WRONG = "sha256:" + "0" * 64


@attrs.define
class Network:
    """Returns one of `answers` for each try; an error is raised."""

    answers: list[object]
    tried: int = 0

    @contextlib.contextmanager
    def open(self, _url: str) -> Iterator[IO[bytes]]:
        answer = self.answers[self.tried]
        self.tried += 1
        if isinstance(answer, int):
            raise urllib.error.HTTPError("", answer, "reason", http.client.HTTPMessage(), None)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, bytes | io.BytesIO)
        yield io.BytesIO(answer) if isinstance(answer, bytes) else answer


def wanted(**more: object) -> Mapping[str, Any]:
    return {"file": "a.whl", "url": "http://index/a.whl", "hashes": [RIGHT], "size": None, "kept": "", **more}


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    times: list[float] = []
    monkeypatch.setattr(time, "sleep", times.append)
    return times


@pytest.mark.parametrize(("answers", "url", "why", "tried"), [
    ([DATA], "http:", "", 1), ([503, 429, DATA], "http:", "", 3), ([OSError("gone"), DATA], "http:", "", 2),
    ([http.client.IncompleteRead(b""), DATA], "http:", "", 2), ([404, DATA], "http:", "the server says 404 reason", 1),
    ([500, 502, 504, DATA], "http:", "the server says 504 reason", 3),
    ([OSError("1"), OSError("2"), OSError("third"), DATA], "http:", "third", 3),
    ([urllib.error.URLError("a reason")] * 3, "http:", "a reason", 3), ([OSError("gone"), DATA], "file:", "gone", 1),
])  # fmt: skip
def test_how_often_it_is_tried(
    tmp_path: Path, slept: list[float], answers: list[object], url: str, why: str, tried: int
) -> None:
    network = Network(answers)
    if why:
        with pytest.raises(NoArchive, match=f"^a.whl: {why}$"):
            fetched(network, wanted(url=url), str(tmp_path))
    else:
        assert fetched(network, wanted(url=url), str(tmp_path)).read_bytes() == DATA
    assert network.tried == tried
    assert slept == [*range(tried - 1)]


@pytest.mark.parametrize(("hashes", "fits"), [
    ([RIGHT], True), ([OTHER], True), ([WRONG], False), ([RIGHT, WRONG], False), ([RIGHT, WRONG, OTHER], True),
    ([OTHER, RIGHT], True), ([WRONG, RIGHT], False),
])  # fmt: skip
def test_hashes(tmp_path: Path, hashes: list[str], fits: bool) -> None:
    """The first hash, and one of the others if there are others."""
    if fits:
        assert fetched(Network([DATA]), wanted(hashes=hashes), str(tmp_path)).read_bytes() == DATA
    else:
        with pytest.raises(NoArchive, match="its hash is another one"):
            fetched(Network([DATA]), wanted(hashes=hashes), str(tmp_path))


def test_its_size(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetched(Network([DATA]), wanted(size=300_000), str(tmp_path)).read_bytes() == DATA
    assert capsys.readouterr().out == '{"fetched": 262144}\n{"fetched": 37856}\n'
    with pytest.raises(NoArchive, match="has more than 299,999 bytes"):
        fetched(Network([DATA]), wanted(size=299_999), str(tmp_path))
    monkeypatch.setattr(downloading, "_MOST", 10)
    with pytest.raises(NoArchive, match="has more than 10 bytes"):
        fetched(Network([DATA]), wanted(), str(tmp_path))


def test_a_file_that_ends_too_early(tmp_path: Path, slept: list[float]) -> None:
    class Cut(io.BytesIO):
        length = 5

    with pytest.raises(NoArchive, match="IncompleteRead"):
        fetched(Network([Cut(DATA) for _ in range(3)]), wanted(), str(tmp_path))
    assert slept == [0, 1]


@pytest.mark.parametrize(("lies_there", "tried"), [(DATA, 0), (b"another", 1), (None, 1)])
def test_what_lies_there_already_is_taken_if_it_is_right(tmp_path: Path, lies_there: bytes | None, tried: int) -> None:
    (tmp_path / "new").mkdir()
    if lies_there is not None:
        (tmp_path / "old").write_bytes(lies_there)
    network = Network([DATA])
    path = fetched(network, wanted(kept=str(tmp_path / "old")), str(tmp_path / "new"))
    assert (path.read_bytes(), network.tried) == (DATA, tried)


@pytest.mark.parametrize(("url", "password"), [
    ("http://me:a%20b@HOST/files/a.whl#sha256=0", "me:a b"), ("http://HOST/files/a.whl", "of:index"),
    ("http://you:x@HOST/files/a.whl", "you:x"),
])  # fmt: skip
def test_who_is_told_a_password(tmp_path: Path, url: str, password: str) -> None:
    (tmp_path / "a.whl").write_bytes(DATA)
    with Index(tmp_path, password=password) as index, Index(tmp_path) as stranger:
        opener = IndexOpener([f"https://no:thing@{index.host}/simple/", f"http://of:index@{index.host}/simple/"])
        with opener.open(url.replace("HOST", index.host)) as answer:
            assert answer.read() == DATA
        with opener.open(f"http://{stranger.host}/files/a.whl") as answer:
            assert answer.read() == DATA
        (path, headers), (_, others) = *index.asked, *stranger.asked
    assert (path, headers["User-Agent"]) == ("/files/a.whl", "proxybox")
    assert headers["Authorization"] == "Basic " + base64.b64encode(password.encode()).decode()
    assert "Authorization" not in others


def test_a_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "a b.whl").write_bytes(DATA)
    with IndexOpener([]).open(f"file://{tmp_path}/a%20b.whl") as file:
        assert file.read() == DATA


@pytest.mark.parametrize(("old", "new", "may"), [
    ("http://a/", "http://b/", True), ("http://a/", "https://b/", True), ("https://a/", "https://b/", True),
    ("https://a/", "http://b/", False), ("http://a/", "file:///etc/passwd", False), ("http://a/", "ftp://b/", False),
])  # fmt: skip
def test_where_an_index_may_lead(old: str, new: str, may: bool) -> None:
    request, handler = urllib.request.Request(old), downloading._NoFiles()
    if may:
        led = handler.redirect_request(request, io.BytesIO(), 302, "", http.client.HTTPMessage(), new)
        assert led is not None
        assert led.full_url == new
    else:
        with pytest.raises(urllib.error.HTTPError, match="leads to"):
            handler.redirect_request(request, io.BytesIO(), 302, "", http.client.HTTPMessage(), new)

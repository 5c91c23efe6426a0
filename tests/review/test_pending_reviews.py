"""Pending reviews, and the page that shows them: texts of hostile programs do nothing there."""

import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from proxybox.controller.boxes.worldbuilding import Changed
from proxybox.controller.vfs.commits.refusals import CommitRefused
from proxybox.controller.vfs.overlay.changes import Change
from proxybox.review import Review, ReviewRefused, pending
from proxybox.review.page import page_of


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "proxybox" / "commits" / "reviews"


def review_of(folder: Path, *changes: Change) -> Review:
    folder.mkdir(exist_ok=True)
    return Review([Changed(str(folder), True, changes)])


def added(name: str, content: bytes = b"x\n", **facts: object) -> Change:
    facts = {"type": "file", "content": content} | facts
    return Change(name=name, path=os.fsencode(name), kind="added", mode=0o644, **facts)  # type: ignore[arg-type]


HOSTILE = [
    "<script>alert(1)</script>", "</pre><img src=x onerror=alert(1)>", "\"' onload=x", "a\nb\x1b[2J", "\u202egnp",
    "{{ 7*7 }}", "</style><style>*{}", "\udcff", "javascript:alert(1)", "&lt;b&gt;",
]  # fmt: skip


def test_what_a_program_writes_is_text_on_the_page(tmp_path):
    changes = [added(name.replace("/", "_"), f"{name}\n".encode("utf-8", "surrogateescape")) for name in HOSTILE]
    links = [added(f"l{number}", type="symlink", content=None, target=b"<b>x</b>\n") for number in range(2)]
    page = page_of(review_of(tmp_path / "f<i>o", *changes, *links))
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes)))

    Reader(convert_charrefs=True).feed(page)
    assert {tag for tag, _ in tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "p", "pre", "code", "main", "section", "h2",
        "span", "div", "label", "input", "script",
    }  # fmt: skip
    assert [tag for tag, _ in tags].count("script") == [tag for tag, _ in tags].count("style") == 1
    names = {name for _, attributes in tags for name in attributes}
    assert not any(name.startswith("on") or name in ("src", "href", "style") for name in names)
    assert "{{ 7*7 }}" in page
    assert all(char.isprintable() or char == "\n" for char in page)


def test_only_the_pages_own_script_and_style_may_run(tmp_path):
    import base64
    import hashlib

    page = page_of(review_of(tmp_path / "folder", added("a")))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; ")
    for kind in ("script", "style"):
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy.replace("&#x27;", "'")
        assert "unsafe" not in policy
    assert not re.search(r"https?:", page)


def test_a_review_that_waits_is_what_was_shown(tmp_path, state):
    changes = [added("a\udcff", b"\0\xff"), added("b", type="dir", content=None), added("b/c")]
    review = review_of(tmp_path / "folder", *changes)
    waiting = pending.keep(review)
    assert [each.id for each in pending.waiting()] == [waiting.id] == [review.id]
    assert Path(waiting.page).stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o077 == 0
    again = pending.load(review.id)
    assert again.overlays == review.overlays
    assert not any(again.accepted(item) for item in again)
    path = state / f"{review.id}.json"
    path.write_text(path.read_text().replace('"mode": 420', '"mode": 511'))
    with pytest.raises(ReviewRefused, match="not what was shown"):
        pending.load(review.id)
    path.write_text("{")
    with pytest.raises(ReviewRefused, match="cannot be read"):
        pending.load(review.id)
    pending.discard(review.id)
    assert list(state.iterdir()) == []
    for call in (pending.load, pending.discard):
        with pytest.raises(ReviewRefused, match="no review"):
            call(review.id)
        for strange in ("../x", "", "a" * 15, "A" * 16, "a" * 16 + "\n"):
            with pytest.raises(ReviewRefused, match="no id of a review"):
                call(strange)


def test_reviews_do_not_pile_up(tmp_path, monkeypatch):
    monkeypatch.setattr(pending, "MOST_REVIEWS", 3)
    idents = []
    for number in range(5):
        waiting = pending.keep(review_of(tmp_path / "folder", added(f"a{number}")))
        os.utime(waiting.page.replace(".html", ".json"), (time.time() - 100 + number,) * 2)
        idents.append(waiting.id)
    assert [each.id for each in pending.waiting()] == idents[2:]
    monkeypatch.setattr(pending, "MOST_SECONDS", -1e12)
    assert pending.waiting() == []


def test_a_review_is_not_kept_where_a_program_could_change_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "folder" / "state"))
    with pytest.raises(CommitRefused, match="set XDG_STATE_HOME"):
        pending.keep(review_of(tmp_path / "folder", added("a")))


def test_a_page_that_is_a_link_is_not_followed(tmp_path, state):
    review = review_of(tmp_path / "folder", added("a"))
    pending.keep(review)
    (tmp_path / "precious").write_text("precious")
    for kind in ("html", "json"):
        path = state / f"{review.id}.{kind}"
        path.unlink()
        path.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        pending.load(review.id)
    pending.keep(review)
    assert (tmp_path / "precious").read_text() == "precious"
    assert pending.load(review.id).id == review.id

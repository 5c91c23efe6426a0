"""The parts of two texts: together they give exactly the old or the new text, for any texts, in bounded work."""

import time

from hypothesis import given, settings
from hypothesis import strategies as some

from proxybox.controller.vfs.overlay.changes import Change, Origin
from proxybox.review.items import Item, hunks_of
from proxybox.review.lines import DiffBudget, joined, lines_of, parts_of
from tests.review.scenes import patched

TEXTS = some.lists(some.sampled_from([b"a\n", b"b\n", b"c\r\n", b"\n", b"d", b"\x0b\n", "\u2028\n".encode()])).map(
    b"".join
)


def change(old: bytes | None, new: bytes | None, **facts: object) -> Change:
    facts.setdefault("kind", "modified")
    origin = None if facts["kind"] == "added" else Origin(1, 2, len(old or b""), 3)
    return Change(
        name="f", path=b"f", type="file", mode=0o644, old=old, content=new, old_mode=0o644, origin=origin, **facts
    )  # type: ignore[arg-type]


@given(old=TEXTS, new=TEXTS, data=some.data())
@settings(deadline=None)
def test_parts_join_to_what_was_shown_of_them(old, new, data):
    assert b"".join(lines_of(old)) == old
    before, after = lines_of(old), lines_of(new)
    parts = parts_of(before, after, DiffBudget())
    every = range(len(parts))
    assert joined(before, after, parts, every) == new
    assert joined(before, after, parts, ()) == old
    if old == new:
        assert parts == []
        return
    item = Item(number=1, change=change(old, new), folder="", hunks=hunks_of(change(old, new), DiffBudget()))
    some_of_them = data.draw(some.sets(some.sampled_from([hunk.number for hunk in item.hunks])))
    left = item.with_hunks(some_of_them)
    if left is not None and b"\r" not in old + new and b"\x0b" not in old + new and b"\xe2" not in old + new:
        shown = [hunk.lines for hunk in item.hunks if hunk.number in some_of_them]
        assert left.content == patched(old, shown)


@given(old=TEXTS, new=TEXTS, steps=some.integers(0, 100))
@settings(deadline=None)
def test_work_that_is_used_up_makes_parts_longer_and_not_wrong(old, new, steps):
    before, after = lines_of(old), lines_of(new)
    parts = parts_of(before, after, DiffBudget(steps=steps))
    assert joined(before, after, parts, range(len(parts))) == new
    assert joined(before, after, parts, ()) == old


def test_texts_made_to_be_slow_to_compare_are_compared_in_bounded_time():
    """A hundred different lines, each in one hundredth of the text: difflib alone takes minutes."""
    old = b"".join(b"%d\n" % (number * 7 % 100) for number in range(60_000))
    new = b"".join(b"%d\n" % (number * 11 % 100) for number in range(60_000))
    began = time.process_time()
    work = DiffBudget()
    for _ in range(5):
        hunks = hunks_of(change(old, new), work)
        assert hunks
    assert time.process_time() - began < 30


def test_what_is_large_or_no_text_is_told_by_size_and_digest():
    for old, new in ((b"\0", b"a"), (b"a", b"\xff"), (b"a", b"x" * ((1 << 20) + 1))):
        (hunk,) = hunks_of(change(old, new), DiffBudget())
        assert hunk.kind == "whole"
        assert all("SHA-256" in line for line in hunk.lines)
    (hunk,) = hunks_of(change(None, b"new"), DiffBudget())
    assert len(hunk.lines) == 2, "without the old contents there is one part, which holds the mode, too"


def test_texts_beyond_what_is_shown_are_told_by_size_and_digest():
    work = DiffBudget(shown=10)
    assert hunks_of(change(b"1\n", b"2\n"), work)[0].lines[0].startswith("@@")
    assert "a large text" in hunks_of(change(b"123\n", b"456\n"), work)[0].lines[0]


def test_lines_that_would_act_on_a_terminal_or_look_like_others():
    hostile = "\x1b[2Jx\r+fake\n\u202egnp.exe\n\\ No newline at end of file\n--- a/other\n@@ -1,1 +1,1 @@\n".encode()
    (hunk,) = hunks_of(change(b"", hostile, kind="added"), DiffBudget())
    assert len(hunk.lines) == 6
    assert all(line.startswith("+") for line in hunk.lines[1:])
    assert all(char.isprintable() for line in hunk.lines for char in line)
    strange = Change(name="a\n+++ b/c\x1b", path=b"", kind="added", type="file", mode=0, content=b"x\n")
    item = Item(number=1, change=strange, folder="", hunks=(hunk,))
    assert "\n+++ b/c" not in item.diff
    assert "\x1b" not in item.diff

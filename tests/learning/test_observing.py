"""The access that calls want to which paths, from records alone."""

import os
import struct

import pytest

from proxybox.controller.audit import OSCall
from proxybox.learning.observing import MOST_PATHS, Observed, PathAccess, wanted
from tests.learning.records import call, opened

CREATE = os.O_CREAT | os.O_WRONLY


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (opened("/x"), PathAccess.READ),
        (opened("/x", os.O_DIRECTORY), PathAccess.LIST),
        (opened("/x", os.O_PATH | os.O_DIRECTORY), PathAccess.LOOK),
        (opened("/x", os.O_RDWR), PathAccess.ALTER),
        (opened("/x", CREATE | os.O_APPEND), PathAccess.ALTER),
        (opened("/x", os.O_WRONLY | os.O_TRUNC), PathAccess.ALTER),
        (opened("/x", CREATE | os.O_TRUNC), PathAccess.MAKE),
        (opened("/x", CREATE | os.O_EXCL), PathAccess.MAKE),
        (opened("/x", os.O_TMPFILE | os.O_RDWR), PathAccess.MAKE),
        (call("openat2", "/x", how=struct.pack("<QQQ", CREATE | os.O_TRUNC, 0o644, 0)), PathAccess.MAKE),
        (call("creat", "/x"), PathAccess.MAKE),
        (call("newfstatat", "/x"), PathAccess.LOOK),
        (call("mkdir", "/x"), PathAccess.MAKE),
        (call("symlink", "/x", target=b"/etc"), PathAccess.MAKE),
        (call("unlink", "/x"), PathAccess.REMOVE),
        (call("truncate", "/x"), PathAccess.ALTER),
    ],
)
def test_what_a_call_wants(record: OSCall, kind: PathAccess) -> None:
    assert list(wanted(record)) == [(kind, b"/x")]


def test_a_rename_has_two_places() -> None:
    assert list(wanted(call("rename", "/a", "/b"))) == [(PathAccess.REMOVE, b"/a"), (PathAccess.MAKE, b"/b")]
    assert list(wanted(call("link", "/a", "/b"))) == [(PathAccess.READ, b"/a"), (PathAccess.MAKE, b"/b")]


def test_links_are_followed_to_their_end() -> None:
    assert list(wanted(opened("/x"))) == [(PathAccess.READ, b"/x")]
    assert list(wanted(call("openat", "/link", "/real", flags=0))) == [(PathAccess.READ, b"/real")]
    assert list(wanted(call("unlink", "/link", "/real"))) == [(PathAccess.REMOVE, b"/link")]


def test_records_without_paths_have_what_was_written() -> None:
    record = OSCall("openat", 257, "paths", {"path": b"/a/../x", "flags": 0}, 1)
    assert list(wanted(record)) == [(PathAccess.READ, b"/x")]
    assert list(wanted(OSCall("openat", 257, "paths", {"path": b"x", "flags": 0}, 1))) == []
    assert list(wanted(OSCall("openat", 257, "paths", {}, 1))) == []  # an address that could not be read


def test_calls_without_paths_want_none() -> None:
    assert list(wanted(call("read", fd=3))) == []


def test_refused_and_reached_are_told_apart() -> None:
    observed = Observed.of([
        opened("/a", error="ENOENT"), opened("/a", error="ENOENT"), call("stat", "/a", error="ENOENT"), opened("/b"),
        opened("/c", error="EISDIR"), call("clock_gettime", family="clock"), opened("/d", error="EMFILE"),
    ])  # fmt: skip
    assert {path: asked.calls for path, asked in observed.refused.items()} == {b"/a": {"openat": 2, "stat": 1}}
    assert observed.refused[b"/a"].kinds == {PathAccess.READ, PathAccess.LOOK}
    assert list(observed.reached) == [b"/b"]
    assert observed.clock == 1
    assert observed.short == {"EMFILE": {"openat": 1}}


def test_the_last_that_was_asked_for_comes_last() -> None:
    observed = Observed.of([opened(path, error="ENOENT") for path in ("/a", "/b", "/a")])
    assert list(observed.refused) == [b"/b", b"/a"]


def test_what_every_program_asks_for_is_left_out() -> None:
    observed = Observed.of([opened("/a", error="ENOENT"), opened("/b", error="ENOENT")])
    assert list(observed.without(Observed.of([opened("/a", error="ENOENT")])).refused) == [b"/b"]


def test_paths_are_bounded() -> None:
    observed = Observed.of(opened(f"/{number}", error="ENOENT") for number in range(MOST_PATHS + 5))
    assert (len(observed.refused), observed.more) == (MOST_PATHS, 5)

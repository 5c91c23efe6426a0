"""Reviews that wait for a decision: the changes, stored in the caller's state folder, and a page that shows them.

Rules: the folder is that of the journals (controller/vfs/commits/journal.py), which only the caller can use. A review
is identified by its id, which depends on everything in it: a review that has changed since it was shown is refused.
"""

import contextlib
import functools
import os
import re
import time
from typing import Any, Final

import attrs

from proxybox.controller.boxes.worldbuilding import Changed
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.vfs.commits.journal import StateFolder
from proxybox.controller.vfs.host.boundary import HostRoot
from proxybox.review.reviewing import Review, ReviewRefused

MOST_REVIEWS: Final = 20
MOST_BYTES: Final = 1 << 30
MOST_SECONDS: Final = 30 * 24 * 3600.0
_ID: Final = re.compile(r"[0-9a-f]{16}")


@attrs.frozen(kw_only=True)
class WaitingReview:
    """A review that waits. page: the path of its page. since: seconds since 1970."""

    id: str
    page: str
    since: float


def keep(review: Review) -> WaitingReview:
    """Stores a review until it is committed or discarded, and writes its page.

    Beyond 20 reviews or 1 GiB, the oldest ones are removed, and those older than 30 days. Raises CommitRefused if the
    state folder cannot be used, and OSError.
    """
    from proxybox.review.page import page_of

    for overlay in review.overlays:
        _refuse_within(overlay.source or "")
    _write(_path(review.id, "json"), _converter().dumps(review.overlays).encode())
    _write(_path(review.id, "html"), page_of(review).encode())
    total = 0
    for count, each in enumerate(reversed([other for other in waiting() if other.id != review.id]), 1):
        total += os.stat(_path(each.id, "json")).st_size
        if count >= MOST_REVIEWS or total > MOST_BYTES:
            discard(each.id)
    return WaitingReview(id=review.id, page=_path(review.id, "html"), since=time.time())


def waiting() -> list[WaitingReview]:
    """Returns all waiting reviews of this user, the oldest first. Removes those that are too old."""
    found = []
    for name in os.listdir(_folder()):
        ident = name.removesuffix(".json")
        if name != ident and _ID.fullmatch(ident):
            since = os.stat(_path(ident, "json")).st_mtime
            if time.time() - since > MOST_SECONDS:
                discard(ident)
            else:
                found.append(WaitingReview(id=ident, page=_path(ident, "html"), since=since))
    return sorted(found, key=lambda each: (each.since, each.id))


def load(ident: str) -> Review:
    """Returns a waiting review, with nothing accepted. Raises ReviewRefused if there is none with that id."""
    try:
        with open(os.open(_path(ident, "json"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise ReviewRefused(f"no review {ident} waits") from None
    try:
        review = Review(_converter().loads(data, tuple[Changed, ...]))
    except Exception as error:
        raise ReviewRefused(f"the review {ident} cannot be read: {type(error).__name__}") from error
    if review.id != ident:
        raise ReviewRefused(f"the review {ident} is not what was shown")
    return review


def discard(ident: str) -> None:
    """Removes a waiting review. Raises ReviewRefused if there is none with that id."""
    page = _path(ident, "html")
    try:
        os.unlink(_path(ident, "json"))
    except FileNotFoundError:
        raise ReviewRefused(f"no review {ident} waits") from None
    with contextlib.suppress(FileNotFoundError):
        os.unlink(page)


def _refuse_within(source: str) -> None:
    """Raises CommitRefused if the state folder is in a folder under review: a program could change a review."""
    with contextlib.suppress(SandboxStartError):
        root = HostRoot(source)
        try:
            StateFolder(root)
        finally:
            root.close()


def _folder() -> str:
    path = os.path.join(StateFolder().path, "reviews")
    os.makedirs(path, 0o700, exist_ok=True)
    return path


def _path(ident: str, kind: str) -> str:
    if not _ID.fullmatch(ident):
        raise ReviewRefused(f"{ident!r} is no id of a review")
    return os.path.join(_folder(), f"{ident}.{kind}")


def _write(path: str, data: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path + ".new", flags, 0o600), "wb") as file:
        file.write(data)
    os.rename(path + ".new", path)


@functools.cache
def _converter() -> Any:
    from cattrs.preconf.json import make_converter

    return make_converter()

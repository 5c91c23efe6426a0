"""The exceptions of a commit, as callers see them."""

from __future__ import annotations

import os

from proxybox.policies.errors import ProxyboxError


def printable(text: str) -> str:
    """The text with unprintable characters as escapes.

    The text holds names that a guest chose; such characters could control a terminal, or hide text there.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class CommitRefused(ProxyboxError):
    """Nothing was written. `reasons` says why, with one line for each change that could not be made."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = [printable(reason) for reason in reasons]
        super().__init__("nothing was written: " + "; ".join(self.reasons))


class CommitFailed(ProxyboxError, OSError):
    """The host refused a call during a commit; all was undone, and the folder is as it was. `errno` is the host's."""

    def __init__(self, error: OSError) -> None:
        why = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(error.errno, f"{why}: the commit was undone, the folder is as it was")

    def __str__(self) -> str:
        return str(self.strerror)


class CommitUnfinished(ProxyboxError, OSError):
    """A commit could be neither finished nor undone, and waits for its user.

    `proxybox.commits` and the command line continue it by its `id`. Nothing is lost: an entry that is in neither its
    old nor its new place is in the commit's own folder.
    """

    def __init__(self, ident: str, why: str, error: BaseException | None = None) -> None:
        number = error.errno if isinstance(error, OSError) else None
        self.id = ident
        self.why = printable(why)
        message = f"{self.why}; when that is mended: proxybox commits resume {ident}, or proxybox commits undo {ident}"
        super().__init__(number, message)

    def __str__(self) -> str:
        return str(self.strerror)


class HostChanged(Exception):
    """An entry on the host is no longer as the commit found it, or put it there."""

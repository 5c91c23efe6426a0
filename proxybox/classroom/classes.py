"""Classes of learning platforms: each course of a platform (a context) is a class of its own here."""

import secrets
from collections.abc import Callable, Iterable, Iterator

from proxybox.classroom.connected import Connected
from proxybox.classroom.records import Class
from proxybox.classroom.store import ClassStore


class Classes:
    """All classes. on_change: called when a class is new or has changed, so that teachers get it."""

    def __init__(self, store: ClassStore, known: Iterable[Class], on_change: Callable[[], object]) -> None:
        self._store, self._on_change = store, on_change
        self._all = {each.id: each for each in known}

    def __iter__(self) -> Iterator[Class]:
        return iter(tuple(self._all.values()))

    def title(self, class_id: str) -> str | None:
        """Returns a class's title; None if there is no such class."""
        found = self._all.get(class_id)
        return None if found is None else found.title

    def of(self, platform: str, context: str) -> Class | None:
        """Returns the class of a platform's course; None if there is none yet."""
        return next((each for each in self if (each.platform, each.context) == (platform, context)), None)

    async def keep(self, platform: str, context: str, title: str) -> Class:
        """Stores and returns the class of a platform's course, a new one the first time. title: its current title."""
        known = self.of(platform, context)
        identity = secrets.token_urlsafe(9) if known is None else known.id
        kept = Class(id=identity, platform=platform, context=context, title=title)
        if kept != known:
            self._all[kept.id] = kept
            await self._store.do(Connected.keep_class, kept)
            self._on_change()
        return kept

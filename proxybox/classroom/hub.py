"""Events of the class, sent to browsers as server-sent events.

    Hub.tell(topic, event) ── the topic's recent events ── each reader's queue ── one stream of a browser

https://html.spec.whatwg.org/multipage/server-sent-events.html

Rules: an event has an id. A reader that connects again with the last id that it saw gets the events after it, or
`resync` if the hub does not have them any more. A reader that does not read is cut off when too much waits for it: it
never blocks the sender, and never uses more memory than its bound.
"""

import asyncio
import json
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable
from typing import Final

import attrs

from proxybox.classroom.pageevents import HelloEvent, PageEvent, ResyncEvent, WatchedEvent

#: The bounds of a topic's stored events, and of the events that wait for one reader: their number, and bytes.
_KEPT, _KEPT_BYTES = 2_000, 1 << 19
_WAITING, _WAITING_BYTES = 8_000, 2 << 20
#: The most topics that one stream may watch.
_WATCHED: Final = 8
#: Bytes that are sent at once, except for one larger event; and the most bytes of an event for watchers.
_SENT: Final = 1 << 16
_SHOWN: Final = 1 << 19
#: Seconds of silence after which a comment is sent, so that both sides notice a broken connection.
_PULSE: Final = 15.0
#: Topics: for all seats; for the teacher with the key, about all seats; and for all instructors.
EVERYBODY: Final = "everybody"
TEACHER: Final = "teacher"
INSTRUCTORS: Final = "instructors"
#: The topics for all teachers.
TEACHERS: Final = (TEACHER, INSTRUCTORS)


def topic_of_class(class_id: str) -> str:
    """The topic of a class's seats, for the instructors of this class."""
    return f"class:{class_id}"


@attrs.frozen
class Event:
    """One event to be sent. number: its place among all events of this hub."""

    number: int
    name: str
    data: str

    @classmethod
    def of(cls, relayed: PageEvent, number: int = 0) -> "Event":
        """Returns an event to be sent. number 0: it has no id, and is not stored."""
        return cls(number, relayed.NAME, json.dumps(relayed.data))

    @property
    def size(self) -> int:
        """Its approximate size in bytes."""
        return len(self.data) + 100


@attrs.define
class _Topic:
    """The latest events of a topic. lost: the number of the latest event that was removed."""

    kept: deque[Event] = attrs.field(factory=deque)
    bytes: int = 0
    lost: int = 0

    def keep(self, event: Event) -> None:
        """Stores an event, and removes the oldest ones."""
        self.kept.append(event)
        self.bytes += event.size
        while len(self.kept) > _KEPT or self.bytes > _KEPT_BYTES:
            gone = self.kept.popleft()
            self.bytes -= gone.size
            self.lost = gone.number


class Reader:
    """One stream of a browser. id: the pages' name for it. topics: whose events it gets.

    watched: further topics: each page that shares the stream can watch one.
    """

    def __init__(self, hub: "Hub", topics: Iterable[str]) -> None:
        self.id = secrets.token_urlsafe(12)
        self.topics = frozenset(topics)
        self.watched: OrderedDict[str, str] = OrderedDict()
        self._hub = hub
        self._waiting: deque[Event] = deque()
        self._bytes = 0
        self._some = asyncio.Event()
        self._is_last = False
        self.ended = asyncio.Event()

    def put(self, event: Event) -> None:
        """Adds an event to the stream."""
        if self.ended.is_set() or self._is_last:
            return
        self._waiting.append(event)
        self._bytes += event.size
        if len(self._waiting) > _WAITING or self._bytes > _WAITING_BYTES:
            self.cut_off()
        self._some.set()

    def cut_off(self) -> None:
        """Ends the stream at once; its page connects again, and loads what it has missed."""
        self.ended.set()
        self._waiting.clear()
        self._bytes = 0
        self._some.set()

    def finish(self) -> None:
        """Ends the stream after the events that wait."""
        self._is_last = True
        self._some.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yields the bytes of the stream in pieces, until the stream is cut off or finished."""
        yield b"retry: 1000\n\n"
        while not self.ended.is_set():
            try:
                async with asyncio.timeout(_PULSE):
                    await self._some.wait()
            except TimeoutError:
                yield b": still here\n\n"
                continue
            self._some.clear()
            while self._waiting:
                yield self._piece()
            if self._is_last:
                return

    def _piece(self) -> bytes:
        """The next events, as many as a connection takes at once. Unread events wait here, where they are bounded."""
        piece = bytearray()
        while self._waiting and len(piece) < _SENT:
            event = self._waiting.popleft()
            self._bytes -= event.size
            piece += self._hub.sent(event)
        return bytes(piece)


class Hub:
    """All topics and readers of a class."""

    def __init__(self) -> None:
        self._boot = secrets.token_hex(4)
        self._number = 0
        self._topics: dict[str, _Topic] = {}
        self._readers: dict[str, dict[str, Reader]] = {}
        self._watchers: dict[str, dict[str, Reader]] = {}
        self._all: dict[str, Reader] = {}

    @property
    def position(self) -> str:
        """The id of the latest event."""
        return f"{self._boot}-{self._number}"

    def sent(self, event: Event) -> bytes:
        """The bytes of an event in the stream."""
        head = f"id: {self._boot}-{event.number}\n" if event.number else ""
        return f"{head}event: {event.name}\ndata: {event.data}\n\n".encode("utf-8", "backslashreplace")

    # --- sending ------------------------------------------------------------------------------------------------------

    def tell(self, topic: str, relayed: PageEvent) -> None:
        """Sends an event to the readers of a topic, and stores it for those that connect again."""
        self._number += 1
        event = Event.of(relayed, self._number)
        self._topics.setdefault(topic, _Topic()).keep(event)
        for reader in self._readers.get(topic, {}).values():
            reader.put(event)
        self.show(topic, relayed)

    def show(self, topic: str, event: PageEvent) -> None:
        """Sends an event only to those who watch a topic. If it is too large, they get `resync`."""
        if watchers := self._watchers.get(topic):
            seat = topic.partition(":")[2]
            relayed = Event.of(WatchedEvent({"seat": seat, "event": event.NAME, "data": event.data}))
            if relayed.size > _SHOWN:  # it would cut off the stream in which the teacher sees the whole class
                relayed = Event.of(WatchedEvent({"seat": seat, "event": ResyncEvent.NAME, "data": {}}))
            for reader in watchers.values():
                reader.put(relayed)

    def finish(self, topic: str) -> None:
        """Ends the streams of a topic, after the events that wait for them."""
        for reader in self._readers.get(topic, {}).values():
            reader.finish()

    def forget(self, topic: str) -> None:
        """Ends the streams of a topic, after the events that wait for them, and removes the topic."""
        self.finish(topic)
        self._topics.pop(topic, None)

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, topics: Iterable[str], seen: str | None) -> Reader:
        """Begins a stream. seen: the id of the last event that its page has received. `leave` ends the stream."""
        reader = Reader(self, topics)
        reader.put(Event.of(HelloEvent(time=time.time(), stream=reader.id, event=self.position)))
        for event in self._missed(reader.topics, seen):
            reader.put(event)
        self._all[reader.id] = reader
        for topic in reader.topics:
            self._readers.setdefault(topic, {})[reader.id] = reader
        return reader

    def _missed(self, topics: Iterable[str], seen: str | None) -> list[Event]:
        if not seen:
            return []
        boot, _, relayed = seen.partition("-")
        resync = [Event.of(ResyncEvent())]
        if boot != self._boot or not relayed.isdecimal() or len(relayed) > 18 or int(relayed) > self._number:
            return resync
        known = [topic for name in topics if (topic := self._topics.get(name)) is not None]
        if any(topic.lost > int(relayed) for topic in known):
            return resync
        missed = [event for topic in known for event in topic.kept if event.number > int(relayed)]
        return sorted(missed, key=lambda event: event.number)

    def watch(self, stream: str, topic: str | None, *, within: str, page: str = "") -> bool:
        """Adds a topic to a stream: its events come as `watched`. None: the page watches no topic.

        within: a topic that the stream must have. page: the watching page, of those that share the stream. If there are
        too many, the oldest one loses its topic. Returns whether there is such a stream.
        """
        reader = self._all.get(stream)
        if reader is None or within not in reader.topics:
            return False
        self._unwatch(reader, page)
        if topic is not None:
            while len(reader.watched) >= _WATCHED:
                self._unwatch(reader, next(iter(reader.watched)))
            reader.watched[page] = topic
            self._watchers.setdefault(topic, {})[reader.id] = reader
        return True

    def _unwatch(self, reader: Reader, page: str) -> None:
        topic = reader.watched.pop(page, None)
        if topic is not None and topic not in reader.watched.values():
            self._leave(self._watchers, topic, reader)

    @staticmethod
    def _leave(readers: dict[str, dict[str, Reader]], topic: str, reader: Reader) -> None:
        of = readers.get(topic, {})
        of.pop(reader.id, None)
        if not of:
            readers.pop(topic, None)

    def count(self, topic: str) -> int:
        """Returns how many streams read a topic."""
        return len(self._readers.get(topic, ()))

    def leave(self, reader: Reader) -> None:
        """Ends a stream."""
        reader.cut_off()
        for page in tuple(reader.watched):
            self._unwatch(reader, page)
        self._all.pop(reader.id, None)
        for topic in reader.topics:
            self._leave(self._readers, topic, reader)

    def close(self) -> None:
        """Ends all streams."""
        for reader in tuple(self._all.values()):
            reader.cut_off()

"""Outcomes of test methods, and the differences between bare and boxed ones."""

import json
from collections.abc import Mapping
from typing import TypeAlias

import attrs


@attrs.define
class Outcome:
    """The outcome of a test method. denied: calls that policy refused meanwhile, with the reason."""

    outcome: str
    text: str = ""
    denied: list[str] = attrs.field(factory=list)


@attrs.define
class Results:
    """All methods of a module, bare or boxed, and the seconds that they took.

    note: why a module has not reached its end. denied: the calls that policy refused outside of methods.
    """

    methods: dict[str, Outcome] = attrs.field(factory=dict)
    seconds: float = 0.0
    note: str = ""
    denied: list[str] = attrs.field(factory=list)


@attrs.frozen
class Difference:
    """A method that passes bare and not boxed. kind: refused, explained, or unexplained."""

    test: str
    outcome: str
    kind: str
    reason: str
    text: str


Row: TypeAlias = tuple[Results, Results, list[Difference]]
Rows: TypeAlias = Mapping[str, Row]


class Log:
    """Reads the log of recorder.py, line by line."""

    def __init__(self) -> None:
        self.methods: dict[str, Outcome] = {}
        self.running: str | None = None
        self.done = False
        self.denied: list[str] = []
        self.outside: list[str] = []

    def line(self, line: bytes) -> None:
        record = json.loads(line)
        if "start" in record:
            self.running = record["start"]
            self.outside += self.denied
            self.denied.clear()
        elif "end" in record:
            denied = list(dict.fromkeys(self.denied))
            self.methods[record["end"]] = Outcome(record["outcome"], record["text"], denied)
            self.running = None
            self.denied.clear()
        else:
            self.outside += self.denied
            self.done = True

    def killed(self, how: str) -> None:
        """Notes that the interpreter was killed. how: the reason."""
        if self.running is not None:
            self.methods[self.running] = Outcome("killed", how, list(dict.fromkeys(self.denied)))
            self.running = None

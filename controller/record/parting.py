"""Where a replay parts from its record, and what it shows of the program there."""

from typing import Any

import attrs

from proxybox.controller.record import events


@attrs.frozen
class RequestText:
    """A request for people: the call's name and arguments. compared: those by which requests are told apart."""

    thread: int
    name: str
    arguments: dict[str, Any]
    compared: dict[str, Any] = attrs.field(factory=dict, repr=False)


@attrs.frozen
class Frame:
    """A frame of the program's stack, as the program says. line: None where it has none."""

    file: str
    line: int | None
    function: str


@attrs.frozen
class Divergence:
    """Where a replay parts from its record.

    number: of the call, from 1 on. expected: what the record has there; None where it has ended. got: what the guest
    asks; None where it asks nothing. why: what is wrong, in words.
    """

    number: int
    why: str
    expected: RequestText | None = None
    got: RequestText | None = None


class Diverged(Exception):
    """The replay parts. is_answer: in the answer to the last call, and not with the next one."""

    def __init__(
        self, why: str, expected: events.CallEvent | None = None, got: tuple[int, bytes] | None = None, *,
        is_answer: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(why)
        self.why, self.expected, self.got, self.is_answer = why, expected, got, is_answer

"""Where a replay diverges from its record, and what the program does there."""

from typing import Any

import attrs

from proxybox.controller.record import events


@attrs.frozen
class RequestText:
    """A request as text: the call's name and arguments. compared: the arguments in which requests are compared."""

    thread: int
    name: str
    arguments: dict[str, Any]
    compared: dict[str, Any] = attrs.field(factory=dict, repr=False)


@attrs.frozen
class Frame:
    """A frame of the program's stack, as the program reports it. line: None where it has none."""

    file: str
    line: int | None
    function: str


@attrs.frozen
class Divergence:
    """Where a replay diverges from its record.

    number: the number of the call, counted from 1. expected: the recorded request; None where the record has none. got:
    the guest's request; None where it makes none. why: what is wrong, in words.
    """

    number: int
    why: str
    expected: RequestText | None = None
    got: RequestText | None = None


class Diverged(Exception):
    """The replay diverges. is_answer: whether it does in the answer to the last call, and not with the next call."""

    def __init__(
        self, why: str, expected: events.CallEvent | None = None, got: tuple[int, bytes] | None = None, *,
        is_answer: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(why)
        self.why, self.expected, self.got, self.is_answer = why, expected, got, is_answer

"""What may be spent on one thing that a box shows: steps, of about a microsecond each.

Whoever loops over what a box has sent takes steps, so that a thing that is full of small parts costs no more than
seconds, whatever it is. A thing that nobody waits for any more is given up in the middle: the main thread of a kernel
makes it, in which the cell runs, too.
"""

from collections.abc import Callable
from typing import Final

import attrs

from proxybox.kernel.refusal import CannotShow
from proxybox.terminal.harmless import harmless

#: A picture of the largest size takes half of them: 50,000 elements with a few attributes each.
STEPS: Final = 2_000_000
#: Characters that are made harmless at a time.
_PIECE: Final = 1 << 16


@attrs.define
class StepBudget:
    """The steps of one piece of work. left: how many. is_stopped: whether its result is no longer wanted."""

    left: int = STEPS
    is_stopped: Callable[[], bool] = lambda: False

    def take(self, count: int = 1) -> None:
        """Takes steps. Raises Refused where they are not left."""
        self.left -= count
        if self.left < 0:
            raise CannotShow("it would take too long")
        if self.is_stopped():
            raise CannotShow("interrupted")

    def harmless(self, text: str) -> str:
        """Makes text harmless. Each character that is another one costs, and many that are the same little."""
        if len(text) <= _PIECE:
            self.take(_cost(text))
            return harmless(text)
        pieces = []
        for at in range(0, len(text), _PIECE):
            piece = text[at : at + _PIECE]
            self.take(_cost(piece))
            pieces.append(harmless(piece))
        return "".join(pieces)


def _cost(text: str) -> int:
    return 1 + len(text) // 16 + (0 if text.isascii() else len(set(text)))

"""The work that may be spent on one object that a box displays, in steps of about a microsecond each.

Each loop over data from a box takes steps, so that an object with very many small parts costs no more than seconds.
Work that nobody waits for any more is stopped in the middle: it runs in the main thread of a kernel, which also runs
the cells.
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
        """Takes steps. Raises CannotShow when too few are left, or when the work was stopped."""
        self.left -= count
        if self.left < 0:
            raise CannotShow("it would take too long")
        if self.is_stopped():
            raise CannotShow("interrupted")

    def harmless(self, text: str) -> str:
        """Makes text harmless. In text that is not ASCII, each distinct character costs a step, others cost little."""
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

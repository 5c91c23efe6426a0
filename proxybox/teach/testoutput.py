"""The output and the answers of a submission in one test, for the verdict.

A test that raises an exception of its own, or whose assertion has no message, has not said what is wrong with the
submission. If the submission had answered before, its author gets the answers: mostly one of them is wrong, such as
None from a function without a return. `settling` decides with model solutions whether the exception was caused by that.
"""

import dis
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

import attrs

import proxybox
from proxybox.teach import operators
from proxybox.teach.handles import SubmissionCall
from proxybox.teach.shown import shown

#: Characters of a submission's output in a test that are stored for its verdict.
MOST_PRINTED: Final = 10_000
#: How many of the last answers are shown.
_MOST_ANSWERS: Final = 3
_MOST_FILES: Final = 5
_OWN: Final = Path(proxybox.__file__).parent
_RAISE: Final = dis.opmap["RAISE_VARARGS"]
#: The attribute of a test's item with its SubmissionOutput, the same for all fixtures.
_HEARD: Final = "proxybox_heard"


@attrs.define
class SubmissionOutput:
    """The output of a submission in one test. printed: texts, cut at MOST_PRINTED. answers: the last ones, in words."""

    printed: list[str] = attrs.field(factory=list)
    _answers: deque[str] = attrs.field(factory=lambda: deque(maxlen=_MOST_ANSWERS))
    _made: deque[str] = attrs.field(factory=lambda: deque(maxlen=_MOST_ANSWERS))

    def keep(self, *texts: str) -> None:
        """Adds output, up to the limit and one character more, which shows that it was cut."""
        left = MOST_PRINTED + 1 - sum(map(len, self.printed))
        for text in texts:
            self.printed.append(text[: max(left, 0)])
            left -= len(text)

    def answered(self, call: SubmissionCall, value_text: str, value: Any, stdout: str) -> None:
        """Notes the result of a call. Objects made by `new` are noted separately.

        It is converted to text at once: a test may sort the list that it gets.
        """
        if call.action == "new" and value is not None:
            self._made.append(f"{value_text} returned {shown(value)}")
            return
        if call.action == "value" or (call.action == "operator" and operators.is_statement(call.name)):
            return
        verb, more = (
            ("is", "") if call.action == "get" else ("returned", f" and printed {shown(stdout)}" if stdout else "")
        )
        if call.action == "items":
            verb = "gave"
        self._answers.append(f"{value_text} {verb} {shown(value)}{more}")

    def ran(self, stdout: str, files: Mapping[str, bytes]) -> None:
        """Notes the output and the files of a run of the whole program."""
        names = ", ".join(map(shown, sorted(files)[:_MOST_FILES])) or "no file"
        printed = shown(stdout) if stdout else "nothing"
        self._answers.append(f"the program printed {printed} and wrote {names}")

    def refused(self) -> str:
        """The message to the author if an assertion without a message has failed; empty if nothing was answered."""
        words = [f"{answer}." for answer in self._answers]
        return "\n".join([*words, "The test expects something else."]) if words else ""

    def used_in(self, error: BaseException) -> str:
        """The message to the author if the test has used the answers and raised this; empty if there are none.

        It contains only the type of the exception: the text may be about the expected value.
        """
        words = self._answers or self._made
        if not words:
            return ""
        end = f"the test cannot go on with that ({type(error).__name__})."
        if len(words) == 1:
            return f"{words[0]}, and {end}"
        return "\n".join([*(f"{each}." for each in words), end[:1].upper() + end[1:]])


def output_of(item: Any) -> SubmissionOutput:
    """The output and answers of a submission in a test so far."""
    found: SubmissionOutput = vars(item).setdefault(_HEARD, SubmissionOutput())
    return found


def forget(item: Any) -> None:
    """Starts with empty output, before the test runs for another submission."""
    vars(item).pop(_HEARD, None)


def is_of_use(error: BaseException, root: Path) -> bool:
    """Whether an exception in a test may come from the use of a value, if nothing else decides that.

    It does not if a name is missing, if the test raises it by a raise statement, if it is about a module or about the
    objects of a test's fixtures, or if these refuse their arguments. root: the folder with the exercise's.
    """
    if isinstance(error, NameError | ImportError | SyntaxError) and not isinstance(error, UnboundLocalError):
        return False
    of = getattr(error, "obj", None)  # of an AttributeError
    if isinstance(of, ModuleType) or type(of).__module__.startswith(f"{__package__}."):
        return False
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is not None and last.tb_frame.f_code.co_filename == operators.__file__:  # it runs the test's operator
        return True
    return last is not None and not _is_in(last, _OWN) and not (_is_in(last, root) and _is_raised_by_hand(last))


def _is_raised_by_hand(at: TracebackType) -> bool:
    return at.tb_frame.f_code.co_code[at.tb_lasti] == _RAISE


def _is_in(at: TracebackType, folder: Path) -> bool:
    return Path(os.path.realpath(at.tb_frame.f_code.co_filename)).is_relative_to(os.path.realpath(folder))

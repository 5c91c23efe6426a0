"""What may have led to a difference, the likeliest first.

A record does not say which answer has influenced which later call. So a cause is more likely the more rarely its kind
of difference occurs by chance (`kinds.Weight`). Of differences that always occur, those are more likely whose value is
in the program's later output or questions, and then the last one before the runs part.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from proxybox.records.differing.difference import Apart, Cause
from proxybox.records.differing.judging import AnswerDifference, AnswerPair, Judge
from proxybox.records.differing.kinds import KINDS, DifferenceKind, Weight

#: The most causes of a comparison.
_MOST: Final = 6
_WORDS: Final = re.compile(rb"\w+")
#: The shortest value that is searched for in the differing bytes.
_LEAST: Final = 4
#: Settings of a policy, and the kinds of answers that they influence.
_DECIDES: Final = {
    "time": ("clock", "interpreter's clock", "waiting"), "randomness": ("random", "hash seed", "start"),
    "filesystem": ("content", "existence", "status", "directory", "directory order", "code", "refusal"),
    "network": ("refusal", "answer"), "environment": ("content", "system", "identity", "answer"),
    "on_denied": ("refusal",),
}  # fmt: skip
_OF_ORDER: Final = ("directory order", "random", "threads", "hash seed")
#: Kinds that always differ, the likeliest cause first. All except the seed are named only if nothing else is found.
_ALWAYS: Final = ("hash seed", "unseen", "times", "imports", "system")
_FIRST: Final = ("guest", "code", "command", "policy", "refusal", "arguments", "environment")


@attrs.frozen
class DifferingBytes:
    """The differing bytes: pairs of arguments or output of both runs, at the place where they part."""

    pairs: tuple[tuple[bytes, bytes], ...]

    @property
    def is_permuted(self) -> bool:
        """Whether both have the same words in another order."""
        return any(
            ours != theirs
            and len(words := _WORDS.findall(ours)) > 1
            and sorted(words) == sorted(_WORDS.findall(theirs))
            for ours, theirs in self.pairs
        )

    def shows(self, found: AnswerDifference) -> bool:
        """Whether the values of two answers are in the differing bytes."""
        return any(
            max(len(one), len(other)) >= _LEAST
            and one in ours and other in theirs
            and not (one and one in theirs) and not (other and other in ours)
            for one, other in found.tokens
            for ours, theirs in self.pairs
        )  # fmt: skip


@attrs.define(eq=False)
class CauseSearch:
    """Looks for causes.

    apart: differences of the inputs. found: the differing answers before the runs part, in their order; of many, a
    part. pairs: the places of all of them. threads: the number of the call from which on the order of the threads
    differs, 0 for none. signal: the same for signals, with both signals in words. ended: how the runs ended, in words,
    if the controller ended one of them.
    """

    apart: tuple[Apart, ...]
    found: list[AnswerDifference]
    pairs: list[AnswerPair]
    judge: Judge
    evidence: DifferingBytes
    threads: int = 0
    signal: tuple[int, str, str] | None = None
    ended: tuple[str, str] | None = None

    def __attrs_post_init__(self) -> None:
        listed = {each.path for each in self.pairs if each.kind == "directory"}
        ordered = {path for path in listed if self.judge.is_only_order(path)}
        order = KINDS["directory order"]
        self.found = [
            attrs.evolve(each, kind=order) if each.kind.name == "directory" and each.path in ordered else each
            for each in self.found
        ]
        self.pairs = [
            attrs.evolve(each, kind=order.name) if each.kind == "directory" and each.path in ordered else each
            for each in self.pairs
        ]

    def causes(self) -> tuple[Cause, ...]:
        """Returns the causes, the likeliest first."""
        causes = [*self._given(), *self._answers(), *self._others()]
        if all(each.kind.weight >= Weight.BACKGROUND for each in causes):
            causes.append(Cause(KINDS["unseen"], KINDS["unseen"].words))
        ranked = sorted(causes, key=self._rank)
        likely = [each for each in ranked if each.kind.weight < Weight.NOISE or each.kind.name == "unseen"]
        if likely[0].kind.weight < Weight.BACKGROUND:
            likely = [each for each in likely if each.kind.name not in _ALWAYS[2:] or each.shows]
        return tuple(likely[:_MOST])

    def _rank(self, cause: Cause) -> tuple[int, ...]:
        """Returns the sort key of a cause: a likelier cause has a smaller key."""
        name, found = cause.kind.name, cause.found
        if name == "policy" and not self._matters(cause):
            return (int(Weight.BACKGROUND), 1)
        order = _FIRST.index(name) if name in _FIRST else len(_FIRST)
        if order < len(_FIRST) or cause.kind.weight <= Weight.WORLD:
            is_seed = name == "environment" and cause.words.startswith("PYTHONHASHSEED")
            return (int(Weight.GIVEN), order, 0 if is_seed else 1, 0 if found is None else found.a)
        fits = _ALWAYS.index(name) if name in _ALWAYS else 1
        if name == "clock" and cause.ours.startswith("CLOCK_MONOTONIC"):
            fits = 2  # such a clock is often read only to measure a duration
        if self.evidence.is_permuted:
            fits = _OF_ORDER.index(name) - 4 if name in _OF_ORDER else 1
        if (self.evidence.is_permuted and name == "hash seed") or cause.shows:
            return (int(Weight.CHANCE), 0 if cause.shows else 1, fits, 0 if found is None else -found.a)
        weight = Weight.BACKGROUND if name == "unseen" else cause.kind.weight
        return (int(weight), 0 if cause.shows else 1, fits, 0 if found is None else -found.a)

    def _matters(self, cause: Cause) -> bool:
        """Whether a setting of the policy influences a kind of answer that differs."""
        section = cause.words.partition(".")[0].split()[-1]
        kinds = {each.kind.name for each in self.found}
        if section == "limits":
            return self.ended is not None
        return "refusal" in kinds or any(kind in kinds for kind in _DECIDES.get(section, ()))

    def _given(self) -> Iterator[Cause]:
        names = {(each.kind.name, each.name) for each in self.apart}
        for each in self.apart:
            if each.kind.name == "policy" and each.name == "environment.variables" and any(
                kind == "environment" for kind, _ in names
            ):  # fmt: skip
                continue  # each variable has a cause of its own
            words = each.kind.words if each.kind.name in ("code", "arguments") else each.name
            if each.name == "PYTHONHASHSEED":
                words = "PYTHONHASHSEED, the seed of hashes"
            yield Cause(each.kind, words, None, each.ours, each.theirs)

    def _answers(self) -> Iterator[Cause]:
        groups: dict[tuple[str, str], list[AnswerDifference]] = {}
        for each in self.found:
            by_path = each.path if each.kind.weight <= Weight.WORLD and len(groups) < 1000 else ""
            groups.setdefault((each.kind.name, by_path), []).append(each)
        counts = Counter((each.kind, each.path) for each in self.pairs)
        kinds = Counter(each.kind for each in self.pairs)
        for (_, path), group in groups.items():
            kind = group[0].kind
            shown = next((each for each in reversed(group) if self.evidence.shows(each)), None)
            chosen = shown or (self._first(group) if kind.weight <= Weight.WORLD else group[-1])
            yield Cause(
                kind,
                _words(kind, chosen.path),
                chosen,
                chosen.ours,
                chosen.theirs,
                shown is not None,
                counts[kind.name, path] if path else kinds[kind.name],
            )

    @staticmethod
    def _first(group: Iterable[AnswerDifference]) -> AnswerDifference:
        """Returns the first difference of a file; a difference of its content is preferred to one of its size."""
        listed = list(group)
        return next((each for each in listed if each.is_content), listed[0])

    def _others(self) -> Iterator[Cause]:
        if self.threads:
            yield _noted("threads", self.threads, "", "")
        if self.signal is not None:
            yield _noted("signal", *self.signal)
        if self.ended is not None:
            yield Cause(KINDS["ended"], KINDS["ended"].words, None, *self.ended)


def _noted(kind: str, number: int, ours: str, theirs: str) -> Cause:
    found = AnswerDifference(KINDS[kind], number, number, "", ours, theirs, "")
    return Cause(KINDS[kind], KINDS[kind].words, found, ours, theirs)


def _words(kind: DifferenceKind, path: str) -> str:
    """Returns in words what differs, with the path if there is one."""
    if not path or kind.name in ("stdin", "clock", "interpreter's clock", "identity"):
        return kind.words
    words = {
        "content": f"the content of {path}", "existence": f"whether {path} exists",
        "status": f"the size, mode or owner of {path}", "directory order": f"the order of the entries of {path}",
        "directory": f"which entries {path} has",
    }  # fmt: skip
    return words.get(kind.name, f"{kind.words} ({path})")

"""Rules of an exercise about how it must be solved: without `sorted`, with recursion, in at most 30 lines.

    [rules]
    forbid = ["import", "sorted", "method:sort"]
    require = ["function:area", "loop"]
    max_lines = 30

They are for teaching: they examine the syntax tree of a submission, and a submission can evade them. The policy, not
these rules, limits what a submission can do to a machine; a box limits what its source can do to the parser.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import attrs

from proxybox import Filesystem, Limits, Policy, Sandbox, Session, SessionLimits, Time
from proxybox.policies.building import model
from proxybox.policies.checks import refusal
from proxybox.policies.errors import PolicyError, Problem, nearest, shown
from proxybox.teach import facts
from proxybox.terminal.harmless import on_one_line

#: The most characters of code, without comments, that are examined: people write less, and more takes seconds.
MOST_SOURCE: Final = 256 * 1024
#: The most characters with comments.
MOST_TEXT: Final = 4 * 1024 * 1024
_MOST_TOLD: Final = 200
_MOST_LINES: Final = 100_000
#: The file in the box with the submission.
_SOURCE: Final = "source"
#: The policy of the box for a submission: code written by people needs a hundredth of these limits.
_POLICY: Final = Policy(
    filesystem=Filesystem(box="memory"),
    time=Time.virtual(),
    limits=Limits(wall_time=120, cpu_time=5, memory="512M", disk=5 * MOST_TEXT, files=50, threads=1),
    session=SessionLimits(branches=2, value_size=1 << 16),
)

#: Rule words for constructs of Python, and the words for them in messages to students.
CONSTRUCTS: Final = {
    "assert": "assert",
    "break": "break",
    "class": "a class",
    "comprehension": "a comprehension",
    "continue": "continue",
    "decorator": "a decorator",
    "del": "del",
    "docstring": "a docstring",
    "for": "a for loop",
    "fstring": "an f-string",
    "function": "a function of your own",
    "global": "global",
    "if": "if",
    "import": "import",
    "lambda": "lambda",
    "loop": "a loop",
    "match": "match",
    "nonlocal": "nonlocal",
    "recursion": "recursion",
    "slice": "a slice",
    "try": "try",
    "while": "a while loop",
    "with": "with",
    "yield": "yield",
}

#: Rule words with a name after them, and the words for them in messages to students.
KINDS: Final = {
    "import": "importing {}",
    "call": "a call of {}",
    "method": "the method {}",
    "function": "a function called {}",
    "class": "a class called {}",
    "docstring": "a docstring in {}",
}
#: Python's own functions: each of them is a rule word.
BUILTINS: Final = frozenset(name for name in dir(builtins) if name.islower() and not name.startswith("_")) - {
    "copyright", "credits", "license",
}  # fmt: skip
#: The rule word for the same word in Python's spelling, or for a plural.
_MEANT: Final = {
    "def": "function", "except": "try", "raise": "try", "from": "import", "generator": "yield", "loops": "loop",
    "comprehensions": "comprehension", "recursive": "recursion", "imports": "import", "else": "if", "elif": "if",
}  # fmt: skip


def _to_words(value: Sequence[str]) -> tuple[str, ...]:
    """Rule words, each once. Raises PolicyError, which names every word that does not exist."""
    if not isinstance(value, list | tuple):
        meant = f'["{value}"]' if isinstance(value, str) and _fault(value) is None else ""
        raise refusal('want a list of words, such as ["import", "call:sum"]', value, meant=meant)
    problems = [attrs.evolve(fault, key=f"[{at}]") for at, word in enumerate(value) if (fault := _fault(word))]
    if problems:
        raise PolicyError(*problems)
    return tuple(dict.fromkeys(value))


def _to_lines(value: int | None) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_LINES):
        return value
    raise refusal(f"want a whole number of lines, 1 to {_MOST_LINES:,}", value)


def _fault(word: object) -> Problem | None:
    """The fault of a rule word; None if it has none."""
    if not isinstance(word, str):
        return Problem(key="", message="want a word in quotes", given=shown(word))
    if word in CONSTRUCTS or word in BUILTINS:
        return None
    kind, colon, name = word.partition(":")
    if not colon:
        allowed = f"{', '.join(sorted(CONSTRUCTS))}, a function of Python's own such as sorted, {_kinds()}"
        meant = _MEANT.get(word.lower()) or nearest(word, [*CONSTRUCTS, *sorted(BUILTINS)])
        return Problem(
            key="", message="there is no such rule", given=shown(word), meant=_quoted(meant), allowed=allowed
        )
    if kind not in KINDS:
        meant = "function" if kind == "def" else nearest(kind, KINDS)
        return Problem(
            key="", message="there is no such rule", given=shown(word), meant=_quoted(meant and f"{meant}:{name}"),
            allowed=_kinds(),
        )  # fmt: skip
    dotted = kind in ("import", "function", "docstring", "class")
    if all(part.isidentifier() for part in name.split(".")) and (dotted or "." not in name):
        return None
    bare = name.strip().removesuffix("()").rpartition(".")[2 if not dotted else 0] or name.strip().removesuffix("()")
    meant = f"{kind}:{bare}" if bare.isidentifier() and bare != name else ""
    words = f"want a name after the colon, such as {_quoted(f'{kind}:area')}"
    return Problem(key="", message=words, given=shown(word), meant=_quoted(meant))


def _kinds() -> str:
    return ", ".join(f"{kind}:NAME" for kind in KINDS)


def _quoted(text: str) -> str:
    return f'"{text}"' if text else ""


@model("rules")
@attrs.frozen(kw_only=True)
class Rules:
    """The constructs that a submission must not or must have. Raises PolicyError, which reports all faults at once.

    forbid, require: rule words (docs/exercises.md). max_lines: of code; empty lines and comments do not count.
    """

    forbid: tuple[str, ...] = attrs.field(default=(), converter=_to_words)
    require: tuple[str, ...] = attrs.field(default=(), converter=_to_words)
    max_lines: int | None = attrs.field(default=None, converter=_to_lines)

    def __attrs_post_init__(self) -> None:
        both = [word for word in self.require if word in self.forbid]
        if both:
            message = f"{', '.join(map(_quoted, both))} cannot be required and forbidden"
            raise PolicyError(Problem(key="rules.require", message=message, assumed="rules"))

    def __bool__(self) -> bool:
        """Whether there are any rules."""
        return bool(self.forbid or self.require or self.max_lines)


@attrs.frozen(kw_only=True)
class Breach:
    """A rule that is broken.

    rule: such as "forbid sorted"; empty for a source that cannot be examined. message: for students. line: the first
    line of the submission that breaks the rule, None if there is no such line.
    """

    rule: str
    message: str
    line: int | None = None


_NOT_LOOKED_AT: Final = {
    "long": Breach(rule="", message=f"The file is too long: more than {MOST_SOURCE >> 10} KiB."),
    "deep": Breach(rule="", message="The file is no Python that can be read: it is nested too deeply."),
    "text": Breach(rule="", message="The file is no text: it has characters that Python files cannot have."),
    "dear": Breach(rule="", message="The file is no Python that can be read in the time and memory there is for it."),
}


def check_rules(source: str, rules: Rules, guest: str | None = None) -> list[Breach]:
    """The rules that a submission breaks, in the order of the rules; for several submissions, use `RuleBox`.

    guest: as for `Sandbox`. For any source, this raises only SandboxStartError, if no box starts.
    """
    with RuleBox(guest) as box:
        return box.check(source, rules)


class RuleBox:
    """Examines submissions in a box, because a hostile author decides how much time and memory the parser needs.

    Each submission gets a copy of a session that has seen no other submission. The answer comes from our own code
    (facts.py) in a box where no code of the submission runs. But an author who can attack the guest's parser can make
    the box answer anything.
    """

    def __init__(self, guest: str | None = None) -> None:
        self._sandbox = Sandbox(_POLICY, guest=guest)
        self._session: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the box."""
        self._sandbox.close()

    def check_all(self, sources: Iterable[str], rules: Rules) -> list[list[Breach]]:
        """Like `check`, for a submission's files: MOST_TEXT characters in all, up to the first costly file."""
        found: list[list[Breach]] = []
        left = MOST_TEXT
        for source in sources:
            left -= len(source)
            found.append(self.check(source, rules) if left >= 0 else [_NOT_LOOKED_AT["long"]])
            if left < 0 or _NOT_LOOKED_AT["dear"] in found[-1]:
                break
        return found

    def check(self, source: str, rules: Rules) -> list[Breach]:
        """Like `check_rules`."""
        if not rules:
            return []
        if len(source) > MOST_TEXT:
            return [_NOT_LOOKED_AT["long"]]
        found = self._look(source, rules)
        if found.fault == "syntax":
            return [_no_python(found)]
        if found.fault:
            return [_NOT_LOOKED_AT[found.fault]]
        return [*_forbidden(found, rules.forbid), *_missing(found, rules.require), *_too_long(found, rules.max_lines)]

    def _look(self, source: str, rules: Rules) -> _Found:
        with self._base().fork() as session:
            session.write_file(_SOURCE, source.encode("utf-8", "surrogatepass"))
            answer = session.call(
                "look_at", _SOURCE, MOST_SOURCE, rules.forbid, rules.require, rules.max_lines, tuple(CONSTRUCTS)
            )
        try:
            found = _Found(**answer.value) if answer.ok and answer.error is None else _DEAR
        except (TypeError, ValueError):
            return _DEAR
        is_whole = (len(found.forbidden), len(found.required)) == (len(rules.forbid), len(rules.require))
        return found if found.fault or is_whole else _DEAR

    def _base(self) -> Session:
        if self._session is None or not self._session.alive:
            self._session = self._sandbox.session()
            self._session.exec(Path(facts.__file__).read_text(encoding="utf-8"), check=True)
        return self._session


_is_line = attrs.validators.and_(
    attrs.validators.instance_of(int), attrs.validators.ge(0), attrs.validators.le(MOST_TEXT)
)
_are_lines = attrs.validators.deep_iterable(
    attrs.validators.optional(_is_line), attrs.validators.instance_of(list | tuple)
)


@attrs.frozen(kw_only=True)
class _Found:
    """The report of facts.py on a source, see `facts.look`."""

    fault: str = attrs.field(default="", validator=attrs.validators.in_(("", "syntax", *_NOT_LOOKED_AT)))
    message: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    line: int | None = attrs.field(default=None, validator=attrs.validators.optional(_is_line))
    forbidden: Sequence[int | None] = attrs.field(default=(), validator=_are_lines)
    required: Sequence[int | None] = attrs.field(default=(), validator=_are_lines)
    lines: int = attrs.field(default=0, validator=_is_line)
    beyond: int | None = attrs.field(default=None, validator=attrs.validators.optional(_is_line))


#: For a source that took too much, or that ended the guest.
_DEAR: Final = _Found(fault="dear")


def _no_python(found: _Found) -> Breach:
    message = on_one_line(found.message.replace(" (<unknown>, line", " (line")[:_MOST_TOLD])
    where = f", on line {found.line}" if found.line else ""
    return Breach(rule="", message=f"The file is no Python: {message}{where}.", line=found.line)


def _forbidden(found: _Found, words: Sequence[str]) -> list[Breach]:
    return [
        Breach(rule=f"forbid {word}", message=f"This exercise is to be solved without {_label(word)}.", line=line)
        for word, line in zip(words, found.forbidden, strict=True)
        if line is not None
    ]


def _missing(found: _Found, words: Sequence[str]) -> list[Breach]:
    return [
        Breach(rule=f"require {word}", message=f"This exercise is to be solved with {_label(word)}.")
        for word, line in zip(words, found.required, strict=True)
        if line is None
    ]


def _too_long(found: _Found, most: int | None) -> list[Breach]:
    if most is None or found.beyond is None:
        return []
    message = f"The file has {found.lines} lines of code, and at most {most} are wanted."
    return [Breach(rule=f"max_lines {most}", message=message, line=found.beyond)]


def _label(word: str) -> str:
    kind, colon, name = word.partition(":")
    owner, dot, method = name.rpartition(".")
    if kind == "function" and dot:
        return f"a method {method} in the class {owner}"
    if colon:
        return KINDS[kind].format(name)
    return CONSTRUCTS.get(word, f"the function {word}")

"""Submissions that are nearly the same: a hint to look at, not proof of anything. Short exercises have few solutions.

Winnowing of token streams, after Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document
Fingerprinting" (SIGMOD 2003). Names and literals do not count; what the starter has does not either.
"""

import builtins
import io
import keyword
import re
import tokenize
import zlib
from collections import Counter, defaultdict
from itertools import combinations

import attrs

from proxybox.teach.grades import GradeBook

_GRAM = 8
_WINDOW = 5
#: So much of a source is read.
_LIMIT = 200_000
_KEPT = frozenset(keyword.kwlist) | frozenset(dir(builtins))
_NO_TOKENS = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENCODING, tokenize.ENDMARKER)
_WORDS = re.compile(r"[A-Za-z_]\w*|\d+|[^\w\s]")


@attrs.frozen
class Pair:
    """Two submissions, by student; share: of the smaller one's fingerprints, those that both have, 0 to 1."""

    first: str
    second: str
    share: float


def tokens(source: str) -> list[str]:
    """The source without its names, literals, comments and layout."""
    source = source[:_LIMIT]
    out: list[str] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in (tokenize.INDENT, tokenize.DEDENT):
                out.append(">" if token.type == tokenize.INDENT else "<")
            elif token.type in (tokenize.NUMBER, tokenize.STRING):
                out.append("0")
            elif token.type not in _NO_TOKENS:
                out.append(_normal(token.string))
    except (tokenize.TokenError, SyntaxError, ValueError):  # no Python: by words then, the whole of it
        out = [_normal(word) for word in _WORDS.findall(source)]
    return out


def _normal(word: str) -> str:
    if word[:1].isdigit():
        return "0"
    return "n" if word.isidentifier() and word not in _KEPT else word


def _grams(source: str) -> list[int]:
    stream = tokens(source)
    return [
        zlib.crc32("\0".join(stream[start : start + _GRAM]).encode("utf-8", "replace"))
        for start in range(len(stream) - _GRAM + 1)
    ]


def fingerprints(source: str, starter: str = "") -> frozenset[int]:
    """The smallest hash of each window of neighbours; none of the starter's."""
    return _winnow(source, frozenset(_grams(starter)))


def _winnow(source: str, known: frozenset[int]) -> frozenset[int]:
    hashes = [gram for gram in _grams(source) if gram not in known]
    return frozenset(min(hashes[i : i + _WINDOW]) for i in range(max(len(hashes) - _WINDOW + 1, bool(hashes))))


def similar(book: GradeBook, starter: str = "", threshold: float = 0.8, least: int = 8) -> tuple[Pair, ...]:
    """The pairs that share `threshold` or more, most alike first. A submission of fewer than `least` fingerprints is
    too short to say anything about."""
    known = frozenset(_grams(starter))
    prints = [_winnow(grade.code, known) for grade in book.grades]
    owners: defaultdict[int, list[int]] = defaultdict(list)
    for index, marks in enumerate(prints):
        if len(marks) >= least:
            for mark in marks:
                owners[mark].append(index)
    # submissions by the same owners are counted together, so that 200 equal ones cost one walk over the pairs
    groups = Counter(tuple(who) for who in owners.values())
    common: Counter[tuple[int, int]] = Counter()
    for who, count in groups.items():
        for pair in combinations(who, 2):
            common[pair] += count
    pairs = [
        Pair(book.grades[a].student, book.grades[b].student, count / min(len(prints[a]), len(prints[b])))
        for (a, b), count in common.items()
        if book.grades[a].student != book.grades[b].student
    ]
    return tuple(sorted((p for p in pairs if p.share >= threshold), key=lambda p: (-p.share, p.first, p.second)))

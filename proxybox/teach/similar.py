"""Finds submissions that are nearly the same: a hint, not proof of anything. Short exercises have few solutions.

It winnows token streams, after Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document
Fingerprinting" (SIGMOD 2003). Names and literals do not count, and neither does code of the starter. Identical
submissions are found even if they are short, unless they are the starter itself.
"""

import builtins
import heapq
import keyword
import re
import zlib
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate, combinations
from typing import Final

import attrs

from proxybox.teach.grades import GradeBook

_GRAM = 8
_WINDOW = 5
#: The characters of a source that are read, and the number of its fingerprints that are compared: the smallest ones,
#: which a copy also has.
_LIMIT, _MOST_MARKS = 200_000, 4096
#: The most pairs of submissions with a common fingerprint that are counted; beyond that, the most common fingerprints
#: are left out.
_MOST_COMPARED = 20_000_000
#: The most pairs that are returned.
MOST_PAIRS: Final = 100_000
_KEPT = frozenset(keyword.kwlist) | frozenset(dir(builtins))
#: Python's tokens, approximately. It reads each character of any source once. (The tokenizer of some versions of Python
#: takes minutes for a long line.)
_TOKEN = re.compile(
    r"""
    (?P<text>[A-Za-z]{0,2}(?:
        "{3}(?:[^"\\]|\\(?s:.)?|"(?!""))*+(?:"{3}|(?P<open1>))
      | '{3}(?:[^'\\]|\\(?s:.)?|'(?!''))*+(?:'{3}|(?P<open2>))
      | "(?:[^"\\\n]|\\(?s:.)?)*+"?
      | '(?:[^'\\\n]|\\(?s:.)?)*+'?
    ))
    | (?P<number>\d[\w.]*+)
    | (?P<word>\w++)
    | \#[^\n]*+
    | (?P<line>\n[ \t]*+(?![ \t\n\r\#]))
    | (?P<sign>[^\w\s])
    """,
    re.VERBOSE,
)
_WORDS = re.compile(r"[A-Za-z_]\w*|\d+|[^\w\s]")


@attrs.frozen
class SimilarPair:
    """Two submissions, by student.

    share: the common part of the smaller submission's fingerprints, 0 to 1. is_identical: whether they are the same
    except for blanks at the ends of lines; then the share is 1.
    """

    first: str
    second: str
    share: float
    is_identical: bool = False


@attrs.frozen
class Comparison:
    """The result of a comparison: pairs, most alike first, and the students who have written too little to compare."""

    pairs: tuple[SimilarPair, ...]
    too_short: tuple[str, ...]


def tokens(source: str) -> list[str]:
    """The source without its names, literals, comments and layout; > and < where a block begins and ends.

    After a string literal that does not end, the source is split into words.
    """
    source = source[:_LIMIT]
    out: list[str] = []
    depth, indents = 0, [0]
    for match in _TOKEN.finditer(source):
        kind, part = match.lastgroup, match[0]
        if match["open1"] is not None or match["open2"] is not None:
            return out + [_normal(word) for word in _WORDS.findall(source, match.start())]
        if kind in ("text", "number"):
            out.append("0")
        elif kind == "word":
            out.append(_normal(part))
        elif kind == "sign":
            depth = max(0, depth + (part in "([{") - (part in ")]}"))
            out.append(part)
        elif kind == "line" and not depth:
            if len(part) - 1 > indents[-1]:
                indents.append(len(part) - 1)
                out.append(">")
            while len(part) - 1 < indents[-1]:
                indents.pop()
                out.append("<")
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
    """The smallest hash of each window of neighbouring hashes, without the starter's."""
    return _winnow(source, frozenset(_grams(starter)))


def _winnow(source: str, known: frozenset[int]) -> frozenset[int]:
    hashes = [gram for gram in _grams(source) if gram not in known]
    marks = {min(hashes[i : i + _WINDOW]) for i in range(max(len(hashes) - _WINDOW + 1, bool(hashes)))}
    return frozenset(heapq.nsmallest(_MOST_MARKS, marks) if len(marks) > _MOST_MARKS else marks)


#: A group of fingerprints in the same submissions: the submissions' indices, and how many fingerprints.
_Group = tuple[tuple[int, ...], int]


def similar(book: GradeBook, starter: str = "", threshold: float = 0.8, least: int = 8) -> tuple[SimilarPair, ...]:
    """The pairs of `compare` that share `threshold` or more, most alike first."""
    return compare(book, starter, threshold, least).pairs


def compare(book: GradeBook, starter: str = "", threshold: float = 0.8, least: int = 8) -> Comparison:
    """Compares all submissions with one another.

    Submissions with fewer than `least` fingerprints are pairs only if they are identical. Of more than MOST_PAIRS pairs
    the most similar are returned. Of larger groups of identical submissions, each is a pair with the first.
    """
    known = frozenset(_grams(starter))
    marks = {index: _winnow(grade.code, known) for index, grade in enumerate(book.grades)}
    long = {index: own for index, own in marks.items() if len(own) >= least}
    alike = heapq.nlargest(MOST_PAIRS, _shared(long, threshold, least), key=lambda shared_texts: shared_texts[1])
    shares = {both: (share, False) for both, share in alike}
    shares |= dict.fromkeys(_identical(book, starter), (1.0, True))
    students = [grade.student for grade in book.grades]
    pairs = [
        SimilarPair(students[index], students[other], *shared_texts)
        for (index, other), shared_texts in shares.items()
        if students[index] != students[other]
    ]
    short = (students[index] for index in marks if index not in long)
    return Comparison(
        tuple(sorted(pairs, key=lambda pair: (not pair.is_identical, -pair.share, pair.first, pair.second))),
        tuple(dict.fromkeys(short)),
    )


def _identical(book: GradeBook, starter: str) -> Iterator[tuple[int, int]]:
    """The pairs of submissions with the same text, but not the starter's: not many more than MOST_PAIRS."""
    owners: defaultdict[str, list[int]] = defaultdict(list)
    for index, grade in enumerate(book.grades):
        owners[_trimmed(grade.code)].append(index)
    left = MOST_PAIRS
    for text, of in sorted(owners.items(), key=lambda group: len(group[1])):
        if text not in ("", _trimmed(starter)):
            count = len(of) * (len(of) - 1) // 2
            yield from combinations(of, 2) if count <= left else ((of[0], other) for other in of[1:])
            left -= count


def _trimmed(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.splitlines()).strip("\n")


def _shared(
    marks: Mapping[int, frozenset[int]], threshold: float, least: int
) -> Iterator[tuple[tuple[int, int], float]]:  # fmt: skip
    """The pairs of submissions that have many fingerprints in common, and the share of these."""
    held: defaultdict[int, list[_Group]] = defaultdict(list)
    for group in _groups(marks):
        for index in group[0]:
            held[index].append(group)
    sizes = {index: sum(count for _, count in of) for index, of in held.items()}
    for index, of in held.items():
        common: Counter[int] = Counter()
        for owners, count in of:
            for other in owners[bisect(owners, index) :]:
                common[other] += count
        for other, count in common.items():
            size = min(sizes[index], sizes[other])
            if size >= least and count >= threshold * size:
                yield (index, other), count / size


def _groups(marks: Mapping[int, frozenset[int]]) -> list[_Group]:
    """The groups of fingerprints, those of the fewest submissions first, up to the limit for comparing.

    Because of the groups, 200 equal submissions cost only one walk over their pairs.
    """
    owners: defaultdict[int, list[int]] = defaultdict(list)
    for index, own in marks.items():
        for mark in own:
            owners[mark].append(index)
    groups = sorted(Counter(map(tuple, owners.values())).items(), key=lambda group: len(group[0]))
    costs = accumulate(len(of) * (len(of) - 1) // 2 for of, _ in groups)
    return [group for group, cost in zip(groups, costs, strict=True) if cost <= _MOST_COMPARED]

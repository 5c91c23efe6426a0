"""Finds submissions that are nearly the same: a hint, not proof of anything. Short exercises have few solutions.

It winnows token streams, after Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document
Fingerprinting" (SIGMOD 2003). Names and literals do not count, and neither does what is in the starter.
"""

import builtins
import heapq
import keyword
import re
import zlib
from bisect import bisect
from collections import Counter, defaultdict
from itertools import accumulate

import attrs

from proxybox.teach.grades import GradeBook

_GRAM = 8
_WINDOW = 5
#: The characters of a source that are read, and the number of its fingerprints that are compared: the smallest ones,
#: which a copy has, too.
_LIMIT, _MOST_MARKS = 200_000, 4096
#: How many pairs of submissions with a common fingerprint are counted; beyond that, the most common fingerprints are
#: left out.
_MOST_COMPARED = 20_000_000
_KEPT = frozenset(keyword.kwlist) | frozenset(dir(builtins))
#: Python's tokens, approximately. It looks at each character of any source once. (The tokenizer of some versions of
#: Python takes minutes for a long line.)
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
class Pair:
    """Two submissions, by student.

    share: of the smaller submission's fingerprints, those that both have, 0 to 1.
    """

    first: str
    second: str
    share: float


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
    """The smallest hash of each window of neighbours, without the starter's."""
    return _winnow(source, frozenset(_grams(starter)))


def _winnow(source: str, known: frozenset[int]) -> frozenset[int]:
    hashes = [gram for gram in _grams(source) if gram not in known]
    marks = {min(hashes[i : i + _WINDOW]) for i in range(max(len(hashes) - _WINDOW + 1, bool(hashes)))}
    return frozenset(heapq.nsmallest(_MOST_MARKS, marks) if len(marks) > _MOST_MARKS else marks)


#: A group of fingerprints that the same submissions have: the submissions' indices, and how many fingerprints.
_Group = tuple[tuple[int, ...], int]


def similar(book: GradeBook, starter: str = "", threshold: float = 0.8, least: int = 8) -> tuple[Pair, ...]:
    """The pairs that share `threshold` or more, most alike first.

    A submission of fewer than `least` fingerprints is too short to compare.
    """
    students = [grade.student for grade in book.grades]
    groups = _groups(book, frozenset(_grams(starter)), least)
    held: defaultdict[int, list[_Group]] = defaultdict(list)
    for group in groups:
        for index in group[0]:
            held[index].append(group)
    sizes = {index: sum(count for _, count in of) for index, of in held.items()}
    pairs: list[Pair] = []
    for index, of in held.items():
        common: Counter[int] = Counter()
        for owners, count in of:
            for other in owners[bisect(owners, index) :]:
                common[other] += count
        for other, count in common.items():
            size = min(sizes[index], sizes[other])
            if size >= least and count >= threshold * size and students[index] != students[other]:
                pairs.append(Pair(students[index], students[other], count / size))
    return tuple(sorted(pairs, key=lambda pair: (-pair.share, pair.first, pair.second)))


def _groups(book: GradeBook, known: frozenset[int], least: int) -> list[_Group]:
    """The groups of fingerprints, those of the fewest submissions first, as far as they are compared.

    Grouping makes 200 equal submissions cost only one walk over their pairs.
    """
    owners: defaultdict[int, list[int]] = defaultdict(list)
    for index, grade in enumerate(book.grades):
        marks = _winnow(grade.code, known)
        if len(marks) >= least:
            for mark in marks:
                owners[mark].append(index)
    groups = sorted(Counter(map(tuple, owners.values())).items(), key=lambda group: len(group[0]))
    costs = accumulate(len(of) * (len(of) - 1) // 2 for of, _ in groups)
    return [group for group, cost in zip(groups, costs, strict=True) if cost <= _MOST_COMPARED]

"""The kinds of differences that two runs can have, and what each of them says about the cause.

Two runs of one program never have the same answers throughout: clocks run, and an interpreter takes random bytes when
it starts. So each kind has a weight, which says how rarely such a difference occurs by chance: the content of a file
differs for a reason, but a clock reading always differs.
"""

import enum
from typing import Final

import attrs


class Group(enum.StrEnum):
    """What differs in the second run."""

    INPUT = "other input"
    ANSWER = "other answer"
    POLICY = "other policy"
    CODE = "other code"
    GUEST = "other interpreter"
    UNSEEN = "nothing that a record tells"


class Weight(enum.IntEnum):
    """How likely a difference is the cause of what follows, the likeliest first."""

    GIVEN = 0  # the caller has started the program differently
    WORLD = 1  # data that does not change by itself
    CHANCE = 2  # data that the program reads, and that is never the same
    BACKGROUND = 3  # data that is never the same, for any program
    NOISE = 4  # data that the interpreter reads for its own use


@attrs.frozen
class DifferenceKind:
    """A kind of difference. words: its name, as a part of a sentence. advice: how to find out more, or avoid it."""

    name: str
    group: Group
    weight: Weight
    words: str
    advice: str = ""


_SEED: Final = "give both runs the same randomness: --set randomness=1"
_TIME: Final = "give both runs the same clock: --set time.kind=virtual"
_HASHES: Final = (
    "give both runs the same seed of hashes: --set environment.variables.PYTHONHASHSEED=0, and sort what comes out "
    "of sets"
)

KINDS: Final = {
    kind.name: kind
    for kind in (
        DifferenceKind("guest", Group.GUEST, Weight.GIVEN, "the interpreter"),
        DifferenceKind("code", Group.CODE, Weight.WORLD, "the program's own code"),
        DifferenceKind("command", Group.CODE, Weight.WORLD, "what the caller had the session do"),
        DifferenceKind("arguments", Group.INPUT, Weight.GIVEN, "the program's arguments"),
        DifferenceKind("environment", Group.INPUT, Weight.GIVEN, "the environment variables"),
        DifferenceKind("policy", Group.POLICY, Weight.GIVEN, "the policy"),
        DifferenceKind("refusal", Group.POLICY, Weight.WORLD, "what the policy refuses"),
        DifferenceKind("stdin", Group.INPUT, Weight.WORLD, "standard input"),
        DifferenceKind("content", Group.INPUT, Weight.WORLD, "the content of a file"),
        DifferenceKind("existence", Group.INPUT, Weight.WORLD, "whether a file exists"),
        DifferenceKind("status", Group.INPUT, Weight.WORLD, "the size, mode or owner of a file"),
        DifferenceKind("directory order", Group.ANSWER, Weight.WORLD, "the order of a directory's entries",
             "sort what os.listdir, os.scandir and glob return"),
        DifferenceKind("directory", Group.INPUT, Weight.WORLD, "which entries a directory has"),
        DifferenceKind("host function", Group.ANSWER, Weight.WORLD, "what a host function has returned"),
        DifferenceKind("answer", Group.ANSWER, Weight.WORLD, "the answer to a call"),
        DifferenceKind("ended", Group.POLICY, Weight.WORLD, "how one of the runs was ended from outside"),
        DifferenceKind("random", Group.ANSWER, Weight.CHANCE, "randomness", _SEED),
        DifferenceKind("clock", Group.ANSWER, Weight.CHANCE, "a clock", _TIME),
        DifferenceKind("waiting", Group.ANSWER, Weight.CHANCE, "what a wait ended with: a matter of time"),
        DifferenceKind("identity", Group.ANSWER, Weight.CHANCE, "the number of a process or thread"),
        DifferenceKind("signal", Group.ANSWER, Weight.CHANCE, "when a signal came"),
        DifferenceKind("threads", Group.ANSWER, Weight.CHANCE, "the order in which threads went on",
             "run with --set limits.threads=1, or let threads wait for each other where their order matters"),
        DifferenceKind("hash seed", Group.ANSWER, Weight.BACKGROUND, "the seed of hashes", _HASHES),
        DifferenceKind(
            "imports", Group.INPUT, Weight.BACKGROUND, "which entries the folder has in which modules are looked for"
        ),
        DifferenceKind("times", Group.ANSWER, Weight.BACKGROUND, "a file's times or inode number"),
        DifferenceKind("system", Group.ANSWER, Weight.BACKGROUND, "what /proc or /sys tells"),
        DifferenceKind("start", Group.ANSWER, Weight.NOISE, "random bytes for the interpreter's own start"),
        DifferenceKind(
            "interpreter's clock", Group.ANSWER, Weight.NOISE, "a clock that the interpreter reads for itself"
        ),
        DifferenceKind("unseen", Group.UNSEEN, Weight.NOISE,
             "all answers before were the same, and so was the program, as far as the record tells. Left are the "
             "addresses of objects (id, the default hash) and the order of threads",
             "run both again with --set limits.threads=1, with --set environment.variables.PYTHONHASHSEED=0 and with "
             "--set time.kind=virtual"),
    )
}  # fmt: skip

"""The files that a box sees: its mounts.

Rule: nothing here reads the host. Whether a source exists is checked when a box starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from proxybox.policies import checks
from proxybox.policies.building import build, model, rename
from proxybox.policies.checks import between, one_of, refusal
from proxybox.policies.declaring import Measure, declare
from proxybox.policies.errors import PolicyError, Problem
from proxybox.policies.limits import EVER
from proxybox.policies.sizes import to_size
from proxybox.policies.trees import MODES, Tree, split_mount, to_content, to_tree

Generator: TypeAlias = Callable[[], str | bytes]
Source: TypeAlias = str | bytes | Tree | Generator | None
GivenSource: TypeAlias = "str | os.PathLike[str] | bytes | Mapping[str, Any] | Generator | None"
Mode: TypeAlias = Literal["ro", "rw", "overlay", "memory"]

_SOURCES: Final = "a path on the host, a table of files, bytes, or a function"
_MOUNTS: Final = "a list of mounts"


def _to_target(value: str) -> str:
    path = checks.to_virtual_path(value)
    if path == "/":
        raise refusal("want a path below /: the root itself is the box's own", value)
    if path.split("/")[1] in ("proc", "dev"):
        raise refusal("want a path that is not in /proc or /dev: they are the box's own", value)
    return path


def _to_source(value: GivenSource) -> Source:
    if value is None:
        return None
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        return checks.to_host_path(path if isinstance(path, str) else os.fsdecode(path))
    if isinstance(value, bytes | bytearray):
        return to_content(value)
    if isinstance(value, Mapping):
        return to_tree(value)
    if callable(value):
        return value
    raise refusal(f"want {_SOURCES}", value)


def _kind(source: Source) -> str:
    if isinstance(source, str):
        return "a host path"
    if isinstance(source, Mapping):
        return "a tree of files"
    if isinstance(source, bytes):
        return "a file's content"
    return "nothing" if source is None else "a function"


_MODES_OF: Final = {
    "a host path": ("ro", "rw", "overlay"),
    "a tree of files": ("ro", "overlay", "memory"),
    "a file's content": ("ro", "overlay", "memory"),
    "a function": ("ro",),
    "nothing": ("memory",),
}


def _mount_form(value: Any) -> Any:
    if isinstance(value, str):
        return split_mount(value)
    if isinstance(value, Mapping) and isinstance(value.get("files"), Mapping):
        raise refusal("a number of files; a tree of files is written source = {...}", key="files")
    return rename(value, "content", "source", to_content)


@model("mount", _mount_form)
@attrs.frozen
class Mount:
    """One place in the box's filesystem.

    A source is a path on the host; or a tree of files as a dict (names to text, bytes or dicts); or bytes, the content
    of one file; or a function without arguments that returns the content whenever the file is opened; or None, an empty
    folder in memory. The mode "ro" cannot be written; "rw" writes to the host; "overlay" stores changes beside the
    source; "memory" is a copy that is lost with the box.
    """

    target: str = attrs.field(
        converter=_to_target, metadata=declare(
            Measure.PATH, "where it is; not `/`, nothing in `/proc` or `/dev`, none twice, none below a file",
            values=checks.PATH, default="needed", example="/data",
        ),
    )  # fmt: skip
    source: Source = attrs.field(
        default=None, converter=_to_source, metadata=declare(
            Measure.SOURCE, "what it is: see below", values=_SOURCES, default="nothing: an empty folder", example="data"
        ),
    )  # fmt: skip
    mode: Mode = attrs.field(
        default=attrs.Factory(lambda self: "memory" if self.source is None else "ro", takes_self=True),
        validator=one_of(*MODES), kw_only=True,
        metadata=declare(Measure.WORD, "how it is mounted: see below", default='`"ro"`; without a source `"memory"`'),
    )  # fmt: skip
    size: int | None = attrs.field(
        default=None, converter=to_size, validator=between(0, EVER, "a size of 0 bytes or more, or none"), kw_only=True,
        metadata=declare(
            Measure.SIZE, "how much may be added (`overlay` and `memory`)", default="all that the box may use"
        ),
    )  # fmt: skip
    files: int | None = attrs.field(
        default=None, converter=checks.to_count, validator=between(0, EVER, "0 files or more, or none"), kw_only=True,
        metadata=declare(
            Measure.COUNT, "how many files may be added (`overlay` and `memory`)", default="all that the box may use"
        ),
    )  # fmt: skip
    names: tuple[str, ...] | None = attrs.field(
        default=None, converter=checks.to_patterns, kw_only=True, metadata=declare(
            Measure.TEXTS,
            "of a folder of the host with the mode `ro`: patterns (as fnmatch has them) of the names directly in it "
            "that are shown; what matches none of them is not there for the box",
            values=checks.PATTERNS, default="all names", example=["job-*.csv"],
        ),
    )  # fmt: skip

    def __attrs_post_init__(self) -> None:
        kind = _kind(self.source)
        if self.mode not in _MODES_OF[kind]:
            allowed = ", ".join(f'"{mode}"' for mode in _MODES_OF[kind])
            raise refusal(f"a mount of {kind} cannot have this mode", self.mode, key="mode", allowed=allowed)
        for name in ("size", "files"):
            if getattr(self, name) is not None and self.mode not in ("overlay", "memory"):
                raise refusal(f'only for the modes "overlay" and "memory", not "{self.mode}"', key=name)
        if self.names is not None and (kind != "a host path" or self.mode != "ro"):
            raise refusal('only for a folder of the host with the mode "ro"', key="names")


def parse_mount(text: str) -> Mount:
    """Returns the mount written as "SRC:DST[:MODE]", as after --mount. Raises PolicyError that says what is wrong."""
    try:
        fields = split_mount(text)
    except PolicyError as error:
        raise error.under("mount") from None
    return build(Mount, fields)


def _to_mounts(value: Iterable[Mount | Mapping[str, Any] | str]) -> tuple[Mount, ...]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise refusal(f"want {_MOUNTS}", value)
    mounts: list[Mount] = []
    problems: list[Problem] = []
    for index, item in enumerate(value):
        try:
            mounts.append(build(Mount, item))
        except PolicyError as error:
            problems += error.under(f"[{index}]").problems
    problems = problems or _conflicts(mounts)
    if problems:
        raise PolicyError(*problems)
    return tuple(mounts)


def _conflicts(mounts: Iterable[Mount]) -> list[Problem]:
    """Returns the problems between mounts: one target twice, or one below a file."""
    problems = []
    seen: dict[str, Mount] = {}
    mounts = list(mounts)
    for index, mount in enumerate(mounts):
        key = f"[{index}].target"
        if mount.target in seen:
            problems.append(Problem(key=key, message=f"{mount.target} is the target of two mounts"))
        seen[mount.target] = mount
    for index, mount in enumerate(mounts):
        above = mount.target
        while above := above.rpartition("/")[0]:  # a policy may have many mounts, and come from anybody (a record)
            other = seen.get(above)
            if other is not None and (isinstance(other.source, bytes) or callable(other.source)):
                message = f"{mount.target} is below {above}, which is a file"
                problems.append(Problem(key=f"[{index}].target", message=message))
    return problems


def _filesystem_form(value: Any) -> Any:
    return {"mounts": value} if isinstance(value, list | tuple) else value


@model("filesystem", _filesystem_form)
@attrs.frozen(kw_only=True)
class Filesystem:
    """The files that the box sees, besides its own (the interpreter's library, /tmp, /etc, /dev, /proc)."""

    mounts: tuple[Mount, ...] = attrs.field(
        default=(), converter=_to_mounts, metadata=declare(Measure.MOUNTS, "further files and folders", values=_MOUNTS)
    )
    box: Mode = attrs.field(
        default="overlay", validator=one_of(*MODES),
        metadata=declare(Measure.WORD, "how the script's folder is mounted at `/box`; the modes are those of mounts"),
    )  # fmt: skip
    hide_dotfiles: bool = attrs.field(
        default=True, converter=checks.to_flag, metadata=declare(
            Measure.FLAG,
            "files and folders of the host whose names begin with a dot are hidden; what a box makes with such a name "
            "in an `overlay` stays there and is never committed, and in `rw` such names cannot be made",
            values=checks.FLAG,
        ),
    )  # fmt: skip

    @property
    def changes_host(self) -> bool:
        """Whether a program can change files of the host: then a second run finds the changes of the first one."""
        return "rw" in (self.box, *(mount.mode for mount in self.mounts))

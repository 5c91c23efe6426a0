"""Removes from a policy the parts that recorded runs never used."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from proxybox.controller.audit import OSCall
from proxybox.controller.errors import RecordError
from proxybox.controller.oscalls.rows import paths_of
from proxybox.learning.usage import Unused, unused
from proxybox.policies import Policy, evolve
from proxybox.records.openfiles import OpenFiles
from proxybox.records.record import Record
from proxybox.result import Result


def minimised(policy: Policy, records: Iterable[str | os.PathLike[str]]) -> tuple[Policy, list[Unused]]:
    """Returns a policy without the parts that the recorded runs never used, and these parts.

    A run that was recorded under this policy, or a wider one, also passes under the returned one, as far as its calls
    show this: symbolic links in the programs' paths are not followed.

    Raises RecordError for a record that is not complete, or cannot be read.
    """
    results: list[Result] = []
    found = unused(policy, _calls(records, results), results)
    return _without(policy, found), found


def _calls(records: Iterable[str | os.PathLike[str]], results: list[Result]) -> Iterator[OSCall]:
    """Yields the calls of all records, with absolute paths, and adds how each run ended to `results`."""
    for path in records:
        with Record(path) as record:
            files = OpenFiles(record.policy.environment.cwd)
            for call in record.calls():
                places = {name: place for name in paths_of(call.name) if (place := files.path(call, name)) is not None}
                arguments = {**call.arguments, **{name: os.fsencode(place) for name, place in places.items()}}
                files.follow(call)
                yield OSCall(
                    call.name, 0, call.family, arguments, call.thread, result=call.result, errno=call.errno,
                    paths=tuple(map(os.fsencode, places.values())),
                )  # fmt: skip
            if (result := record.result) is None:
                raise RecordError(f"{os.fspath(path)}: the record is not complete, and does not tell what the run used")
            results.append(result)


def _without(policy: Policy, found: list[Unused]) -> Policy:
    mounts: dict[int, Any] = dict(enumerate(policy.filesystem.mounts))
    for each in found:
        place, _, field = each.key.partition("].")
        if not place.startswith("filesystem.mounts["):
            continue
        at = int(place.removeprefix("filesystem.mounts[").rstrip("]"))
        if field:
            mounts[at] = attrs.evolve(mounts[at], **{field: each.value})
        else:
            del mounts[at]
    changes: dict[str, dict[str, Any]] = {"filesystem": {"mounts": tuple(mounts.values())}}
    for each in found:
        section, _, key = each.key.partition(".")
        if not key.startswith("mounts["):
            changes.setdefault(section, {})[key] = each.value
    fields: Mapping[str, Any] = changes
    return evolve(policy, **fields)

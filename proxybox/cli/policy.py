"""`proxybox policy`: lists presets, prints a policy as TOML, checks and explains policies."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from proxybox.cli.choosing import chosen_packages, named_policy, policy_file
from proxybox.cli.exits import EXIT_CANNOT_RUN
from proxybox.cli.failures import CommandError
from proxybox.cli.run import print_failure
from proxybox.policies import PRESETS, Policy, PolicyError
from proxybox.policies.errors import Problem
from proxybox.terminal.harmless import harmless_lines, on_one_line
from proxybox.terminal.tables import table
from proxybox.terminal.text import Paint, has_colours

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest


def list_presets(*, as_json: bool) -> int:
    """Prints the presets and the purpose of each."""
    if as_json:
        print(json.dumps(dict(PRESETS), indent=2))
        return 0
    print(table((), [(("bold", name), purpose) for name, purpose in PRESETS.items()], coloured=has_colours(sys.stdout)))
    return 0


def show(name: str, settings: Sequence[str], *, as_json: bool) -> int:
    """Prints a policy as TOML, or as JSON."""
    from proxybox.policies.dumping import to_dict, to_toml

    policy = named_policy(name, settings)
    text = json.dumps(to_dict(policy), indent=2) if as_json else to_toml(policy).rstrip("\n")
    print(text)
    return 0


def minimise(name: str, records: Sequence[Path], settings: Sequence[str], *, as_json: bool) -> int:
    """Prints a policy without the parts that recorded runs never used; these parts are printed on stderr."""
    from proxybox.policies.dumping import to_dict, to_toml
    from proxybox.records.minimising import minimised

    try:
        policy, unused = minimised(named_policy(name, settings), records)
        text = to_toml(policy).rstrip("\n")
    except OSError as error:
        return print_failure(CommandError(f"can't read {error.filename!r}: {error.strerror or error}"))
    rows = [{"key": each.key, "told": each.used, "value": each.value} for each in unused]
    if as_json:
        print(json.dumps({"policy": to_dict(policy), "unused": rows}, indent=2))
        return 0
    print(text)
    for each in unused:
        becomes = "taken away" if each.value is None else f"becomes {each.value}"
        print(harmless_lines(f"proxybox: {each.key} {becomes}: {each.used}"), file=sys.stderr)
    if not unused:
        print("proxybox: these runs have used all of it", file=sys.stderr)
    return 0


def check(files: Sequence[Path], *, guest: str | None, packages: Sequence[str], as_json: bool) -> int:
    """Prints every fault of every file; returns 0 when there is none, otherwise 125."""
    from proxybox.controller import find_guest

    folders = chosen_packages(packages, guest)
    chosen = find_guest(guest).with_packages(folders) if guest or folders else None
    found = {str(path): faults(str(path), chosen) for path in files}
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        paint = Paint(sys.stdout)
        for path, problems in found.items():
            for problem in problems:
                print(paint("red", harmless_lines(problem["text"])))
            if not problems:
                print(f"{on_one_line(path)}: {paint('green', 'ok')}")
    return EXIT_CANNOT_RUN if any(found.values()) else 0


def faults(path: str, guest: "Guest | None" = None) -> list[dict[str, Any]]:
    """Returns the faults of one policy file, each with its text and its parts.

    guest: the interpreter that must have the modules of `preload`; None to check no modules.
    """
    try:
        policy = policy_file(path)
        missing = missing_sources(policy, path)
        if guest is not None and not missing:
            missing = missing_modules(policy, guest, path)
    except PolicyError as error:
        missing = list(error.problems)
    except CommandError as error:
        return [{"text": str(error), "file": path, "message": str(error)}]
    return [{"text": str(problem), **attrs.asdict(problem)} for problem in missing]


def missing_sources(policy: Policy, path: str) -> list[Problem]:
    """Returns a problem for each mount that cannot be made here. Such a policy is valid, but no run can use it here."""
    from proxybox.controller.vfs.host.boundary import why_no_mount

    return [
        Problem(key=f"filesystem.mounts[{at}].source", message=f"{why} on this host", given=repr(source), file=path)
        for at, mount in enumerate(policy.filesystem.mounts)
        if isinstance(source := mount.source, str) and (why := why_no_mount(source))
    ]


def missing_modules(policy: Policy, guest: "Guest", path: str) -> list[Problem]:
    """Returns a problem for each module of `preload` that the interpreter does not have."""
    from proxybox.controller.boxes.box import BoxRunner
    from proxybox.controller.warm.preloading import check_preload

    try:
        check_preload(BoxRunner(policy, guest))
    except PolicyError as error:
        return [attrs.evolve(problem, file=path) for problem in error.problems]
    return []


def explain(name: str, settings: Sequence[str], *, as_json: bool) -> int:
    """Prints in words what a policy allows and refuses."""
    policy: Policy = named_policy(name, settings)
    from proxybox.policies.explain import explain as sections_of
    from proxybox.policies.explain import explain_text

    if as_json:
        print(json.dumps([attrs.asdict(section) for section in sections_of(policy)], indent=2))
    else:
        print(harmless_lines(explain_text(policy).rstrip("\n")))
    return 0


def print_schema() -> int:
    """Prints the JSON Schema of policy files."""
    from proxybox.policies.schema import schema

    print(json.dumps(schema(), indent=2))
    return 0

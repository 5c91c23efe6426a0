"""The policy of a command line: a preset or a file, and the options that change it.

Order: --policy, then --set from left to right, then options that set one thing, such as --timeout.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs

from proxybox.cli.arguments import BOX, Option, Parsed
from proxybox.cli.failures import CommandError, UsageError
from proxybox.policies import PRESETS, Filesystem, Policy, PolicyError, parse_mount, preset

T = TypeVar("T")


def choose_policy(parsed: Parsed) -> Policy:
    """Returns the policy for a run.

    Raises UsageError for an invalid option, and CommandError or PolicyError for a policy file that does not exist or
    has faults.
    """
    for other in ("rw", "json"):
        if parsed.flag("review") and parsed.flag(other):
            raise UsageError(f"--review and --{other} exclude each other")
    policy = named_policy(parsed.text("policy") or "default", parsed.texts("set"))
    for each in BOX:
        if each.sets and (text := parsed.text(each.name)) is not None:
            policy = _with(policy, each, text)
    changes: dict[str, object] = {}
    if variables := parsed.texts("env"):
        added = dict(pair("--env", text) for text in variables)
        environment, merged = policy.environment, {**policy.environment.variables, **added}
        changes["environment"] = option("--env", lambda: attrs.evolve(environment, variables=merged))
    if (mounts := parsed.texts("mount")) or parsed.flag("rw") or parsed.flag("review"):
        changes["filesystem"] = option("--mount", lambda: with_mounts(policy, parsed, mounts))
    return _evolved(policy, changes) if changes else policy


def _evolved(policy: Policy, changes: Mapping[str, object]) -> Policy:
    from proxybox.policies import evolve  # imported late: without such options a run starts faster

    return evolve(policy, **changes)


def _with(policy: Policy, given: Option, text: str) -> Policy:
    """Returns a policy with the key that an option sets."""
    section, _, name = given.sets.partition(".")
    value = int(text) if given.metavar == "N" and text.isascii() and text.isdecimal() else text
    changes = {section: {name: value} if name else value}
    return option(given.flags[0], lambda: _evolved(policy, changes))


def with_mounts(policy: Policy, parsed: Parsed, mounts: Sequence[str]) -> Filesystem:
    """Returns the filesystem section with --mount, --rw and --review applied."""
    filesystem = policy.filesystem
    if mounts:
        added = [parse_mount(text) for text in mounts]
        filesystem = attrs.evolve(filesystem, mounts=(*filesystem.mounts, *added))
    if parsed.flag("review"):
        return attrs.evolve(filesystem, box="overlay")
    return attrs.evolve(filesystem, box="rw") if parsed.flag("rw") else filesystem


def named_policy(name: str, settings: Sequence[str] = ()) -> Policy:
    """Returns a preset by its name, or a policy file by its path, with KEY=VALUE settings applied."""
    if name in PRESETS:
        policy = preset(name)
    elif "/" in name or name.endswith(".toml") or os.path.isfile(name):
        policy = policy_file(name)
    else:
        policy = preset(name)  # raises PolicyError, which names a similar preset
    if settings:
        from proxybox.policies import with_settings

        for text in settings:
            pair("--set", text)
        policy = option("--set", lambda: with_settings(policy, settings))
    return policy


def policy_file(path: str) -> Policy:
    """Reads a policy from a TOML file. Raises PolicyError; CommandError when the file cannot be read."""
    from proxybox.policies.loading import load_policy

    try:
        return load_policy(path)
    except OSError as error:
        raise CommandError(f"can't read the policy {path!r}: {error.strerror or error}") from None


def pair(flag: str, text: str) -> tuple[str, str]:
    """Splits NAME=VALUE. Raises UsageError without the `=`."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{flag}: want NAME=VALUE, got {text!r}")
    return name, value


def option(flag: str, make: Callable[[], T]) -> T:
    """Calls `make` and returns its result; an error in the option's value is raised with the option's name."""
    try:
        return make()
    except PolicyError as error:
        raise UsageError(f"{flag}: {error}") from None


def chosen_packages(named: Sequence[str], guest: str | None, guest_library: str | None = None) -> tuple[str, ...]:
    """Returns the folders of packages for --packages; installs missing packages, with messages on stderr.

    Raises CommandError for a path that does not exist, PackagesError, and SandboxStartError.
    """
    if not named:
        return ()
    from proxybox.cli.watching import watched
    from proxybox.controller import find_guest
    from proxybox.packages import folders

    for path in named:
        if not os.path.exists(path):
            raise CommandError(f"--packages: there is no {path!r}")
    with watched() as watcher:
        return folders([os.path.abspath(path) for path in named], find_guest(guest, guest_library), watcher)

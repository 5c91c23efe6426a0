"""Answers uv's question about the guest's interpreter, in a box: `python answering.py` in the place of an interpreter.

uv asks an interpreter for its version, its platform and its markers, by letting it run a script of uv's. uv gets a
program that looks like an interpreter (`interpreter`) and makes the guest run that script in a box.
"""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from proxybox.controller.errors import PackagesError
from proxybox.modulepath import trusted_path
from proxybox.policies.errors import ProxyboxError

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest

_SECONDS = 60
#: An isolated Python imports this module from the same path as its parent.
_BEGIN = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from proxybox.packages.answering import main; main()"
_TAGS = "import sys; sys.path.insert(0, '/tools'); from packaging.tags import sys_tags; print(*sys_tags(), sep='\\n')"


def interpreter(path: str, guest: "Guest", cache: str) -> None:
    """Writes the program to a path. cache: the folder in which uv stores its script."""
    words = [sys.executable, "-I", "-c", _BEGIN, json.dumps(trusted_path()), guest.executable, cache]
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {shlex.join(words)} "$0" "$@"\n')
    os.chmod(path, 0o700)


def main() -> None:
    """Prints the guest's answer, with this program's path as its own: with another path, uv would ask again."""
    from proxybox.controller import find_guest

    _, executable, cache, path, *words = sys.argv[1:]
    try:
        answer = json.loads(_asked(find_guest(executable), words, {cache: cache}))
        print(json.dumps({**answer, "sys_executable": path}))
    except (ProxyboxError, ValueError, TypeError, RecursionError) as error:
        sys.exit(f"{executable}: does not tell what it is: {error}")


def tags(guest: "Guest") -> list[str]:
    """Returns the tags of wheels that fit an interpreter, the best ones first, as it prints them in a box."""
    import packaging

    (folder,) = packaging.__path__
    try:
        return _asked(guest, ("-I", "-B", "-c", _TAGS), {"/tools/packaging": folder}).split()
    except PackagesError as error:
        raise PackagesError(f"{guest.executable}: does not tell which wheels it takes: {error}") from None


def _asked(guest: "Guest", words: Sequence[str], seen: Mapping[str, str]) -> str:
    """Returns the output of an interpreter in a box. seen: folders of the host, by their places in the box."""
    from proxybox.controller.boxes.box import BoxRunner
    from proxybox.policies import Filesystem, Limits, Mount, Policy

    limits = Limits(wall_time=_SECONDS, cpu_time=_SECONDS)
    mounts = tuple(Mount(target, source) for target, source in seen.items())
    policy = Policy(limits=limits, filesystem=Filesystem(mounts=mounts, hide_dotfiles=False))
    run = BoxRunner(policy, guest).run(words)
    if run.outcome.exit_code != 0:
        last = run.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise PackagesError(run.outcome.why or last or f"ends with {run.outcome}")
    return run.stdout.decode(errors="replace")

"""Checks that the modules that a policy names for warm guests (`preload`) exist, before any box is started.

Most are files of the interpreter's library or of the packages, and are looked up there. For all others (built-in
modules, modules below mounts) a guest in a box of its own tries to import them, as a warm guest would.
"""

import functools
import glob
import os
from collections.abc import Sequence

import attrs

from proxybox.controller.boxes.box import BoxRunner
from proxybox.controller.guests.guest import Guest
from proxybox.policies import Limits, Output, Policy, PolicyError
from proxybox.policies.errors import Problem, shown

#: Prints the numbers of the modules that do not exist. Other failures of an import are reported when a warm guest is
#: started.
_ASK = """\
import sys
for number, name in enumerate(sys.argv[1:]):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        if error.name and (name + ".").startswith(error.name + "."):
            sys.__stdout__.write("missing %d\\n" % number)
    except BaseException:
        pass
"""
_SECONDS = 60


def check_preload(box: BoxRunner) -> None:
    """Raises PolicyError for modules that a guest would not find."""
    policy, guest = box.policy, box.guest
    unseen = tuple(name for name in policy.preload if not _is_file(guest, name))
    if not unseen or guest.lacks_bootstrap:
        return
    try:
        hash((policy, guest))
    except TypeError:  # a policy with a mount of data or a function
        missing = _missing.__wrapped__(policy, guest, unseen)
    else:
        missing = _missing(attrs.evolve(policy, limits=Limits()), guest, unseen)
    if missing:
        reason = "there is no such module in the box: neither the interpreter nor packages= has it"
        raise PolicyError(
            *(
                Problem(key=f"preload[{policy.preload.index(name)}]", message=reason, given=shown(name))
                for name in missing
            )
        )


def _is_file(guest: Guest, name: str) -> bool:
    path = name.replace(".", "/")
    for root in (guest.library, *guest.packages):
        place = os.path.join(root, path)
        if os.path.isfile(f"{place}.py") or os.path.isfile(f"{place}/__init__.py"):
            return True
        if glob.glob(f"{glob.escape(place)}.*.so"):
            return True
    return False


@functools.lru_cache(maxsize=64)
def _missing(policy: Policy, guest: Guest, names: Sequence[str]) -> tuple[str, ...]:
    limits = Limits(wall_time=_SECONDS, cpu_time=_SECONDS, calls=None)
    alone = attrs.evolve(policy, limits=limits, output=Output(), on_denied="errno", preload=())
    run = BoxRunner(alone, guest).run(("-c", _ASK, *names))
    lines = {f"missing {number}": name for number, name in enumerate(names)}
    return tuple(lines[line] for line in run.stdout.decode("utf-8", "replace").splitlines() if line in lines)

"""`proxybox kernel`: installs, runs and removes the Jupyter kernel whose cells run in a box."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import attrs

from proxybox.cli.choosing import chosen_packages, named_policy
from proxybox.cli.failures import CommandError, UsageError
from proxybox.policies import PRESETS

_NEEDED = ("ipykernel", "jupyter_client", "IPython", "nh3", "zmq", "tornado", "traitlets", "pygments", "jupyter_core")


def install(
    *,
    name: str,
    display_name: str | None,
    policy: str | None,
    folder: str | None,
    guest: str | None,
    packages: Sequence[str],
    record: str | None,
    user: bool,
    prefix: str | None,
) -> int:
    """Writes the kernel's specification to the place where front ends look for it."""
    _check_needed()
    from proxybox.kernel import spec

    chosen_packages(packages, guest)  # installs them now, and prints this
    choice = spec.KernelOptions(
        policy=_lasting(policy), folder=_lasting_folder(folder), guest=_lasting_guest(guest),
        packages=tuple(map(os.path.abspath, packages)), record="" if record is None else os.path.abspath(record),
    )  # fmt: skip
    try:
        done = spec.install(
            name=name, display_name=display_name or spec.DISPLAY_NAME, choice=choice, user=user, prefix=prefix
        )
    except (OSError, ValueError) as error:
        raise CommandError(f"can't install the kernel: {error}") from None
    *first, last = done.folders
    for where in first:
        print(f"{name}: installed in {where}, in the place of one that Jupyter finds first")
    print(f"{name}: installed in {last}")
    if not done.is_seen:
        print("proxybox: the Jupyter of this environment does not look there (jupyter --paths)", file=sys.stderr)
    return 0


def uninstall(*, name: str) -> int:
    """Removes a specification that `install` has written."""
    _check_needed()
    from jupyter_client.kernelspec import NoSuchKernel

    from proxybox.kernel import spec

    try:
        gone, restored = spec.uninstall(name)
    except NoSuchKernel:
        raise CommandError(f"there is no kernel {name!r} (jupyter kernelspec list)") from None
    except (OSError, ValueError) as error:
        raise CommandError(f"can't uninstall the kernel: {error}") from None
    for where in gone:
        print(f"{name}: removed from {where}")
    for where in restored:
        print(f"{name}: the one that came with proxybox is back, without a policy of yours, in {where}")
    return 0


def run(connection_file: str, **options: Any) -> int:
    """Serves the front ends of a connection file; front ends start this as a kernel.

    options: the fields of a `KernelOptions`; for empty ones, the values of the kernel's specification are used.
    """
    _check_needed()
    if not os.path.isfile(connection_file):
        raise CommandError(f"can't open the connection file {connection_file!r}")
    from proxybox.kernel import spec
    from proxybox.kernel.box import default_policy
    from proxybox.kernel.running import run_kernel

    try:
        installed = spec.choice_for(connection_file)
    except ValueError as error:
        raise CommandError(str(error)) from None
    choice = attrs.evolve(installed, **{key: value for key, value in options.items() if value})
    _existing(choice.folder)
    run_kernel(connection_file, named_policy(choice.policy) if choice.policy else default_policy(), choice)
    return 0


def _check_needed() -> None:
    try:
        import ipykernel  # noqa: F401
        import pygments  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise CommandError(
            f"the kernel needs {error.name}, which is not installed: pip install 'proxybox[jupyter]'"
        ) from None


def _lasting(policy: str | None) -> str:
    """Returns a policy's name or absolute path, which the kernel finds from any folder. Raises for a bad policy."""
    if policy is None:
        return ""
    named_policy(policy)
    return policy if policy in PRESETS else os.path.abspath(policy)


def _lasting_guest(guest: str | None) -> str:
    """Returns an interpreter's name or absolute path. Raises SandboxStartError when it cannot be a guest."""
    if guest is None:
        return ""
    from proxybox.controller.guests.finding import absolute_guest, find_guest

    find_guest(guest)
    return str(absolute_guest(guest))


def _lasting_folder(folder: str | None) -> str:
    if not folder or folder == ".":
        return folder or ""
    _existing(folder)
    return os.path.abspath(folder)


def _existing(folder: str) -> None:
    """Raises UsageError for a path that is no folder."""
    if folder and not os.path.isdir(folder):
        raise UsageError(f"--folder: {folder!r} is no folder")


def prefix_of(user: bool, prefix: str | None, sys_prefix: bool) -> tuple[bool, str | None]:
    """Returns where to install: for the user, or below a prefix; without either, where Jupyter will find the kernel.

    Raises UsageError when two places are given.
    """
    if user + bool(prefix) + sys_prefix > 1:
        raise UsageError("want one of --user, --prefix and --sys-prefix")
    if sys_prefix:
        return False, sys.prefix
    return user, prefix

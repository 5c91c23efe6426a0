"""The cache of installed packages: a folder for each interpreter and each list of requirements, which never changes.

$XDG_CACHE_HOME/proxybox/packages/NAME-DIGEST holds packages as pip's --target does, and `proxybox.json` beside them
says for what. Folders are shared by all boxes, which see them read-only.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from proxybox.controller.errors import PackagesError
from proxybox.controller.statefolder import cache_folder
from proxybox.packages.compiling import compile_all

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest

_TOLD = "proxybox.json"
_SECONDS = 900
#: Of what an installer says of a failure that it does not mark as such.
_MOST_LINES = 12
#: Variables that would have pip or uv install elsewhere, or build.
_UNWANTED = (
    "PIP_TARGET", "PIP_USER", "PIP_PREFIX", "PIP_ROOT", "PIP_NO_BINARY", "PIP_REQUIRE_VIRTUALENV", "PIP_EDITABLE",
    "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON", "UV_NO_BINARY", "UV_CONSTRAINT", "UV_OVERRIDE", "VIRTUAL_ENV",
)  # fmt: skip
#: How pip and uv say that there is nothing to install.
_SAYS_NO_WHEEL = ("No matching distribution", "from versions", "no usable wheels", "no wheels", "was not found")
_NO_WHEEL = (
    "only wheels are installed: what has none for this interpreter would be built here, which runs its code on this "
    "side. Build it yourself where you trust it (pip install --target FOLDER), and name the folder with --packages"
)


def installed(text: str, guest: "Guest", tell: Callable[[str], object] = lambda line: None) -> str:
    """Returns the folder with the packages that `text`, lines of a requirements file, asks for.

    Raises PackagesError when they cannot be installed.
    """
    parent = _parent()
    identity = json.dumps([guest.name, guest.executable, text])
    folder = os.path.join(parent, f"{guest.name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}")
    if os.path.isfile(os.path.join(folder, _TOLD)):
        with contextlib.suppress(OSError):
            os.utime(os.path.join(folder, _TOLD))  # when it was used last
        return folder
    tell(f"installing packages for {guest.name} ({folder})")
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".new-") as work:
        made = os.path.join(work, "made")
        os.mkdir(made)
        _install(text, made, work, guest)
        shutil.rmtree(os.path.join(made, "bin"), ignore_errors=True)
        with contextlib.suppress(OSError):
            os.remove(os.path.join(made, ".lock"))  # uv's
        os.chmod(made, 0o755)  # noqa: S103 - boxes of other users see it
        with contextlib.suppress(PackagesError):  # a file that is no Python is compiled by nobody
            compile_all(made, guest)
        with open(os.path.join(made, _TOLD), "w", encoding="utf-8") as file:
            json.dump(
                {"guest": guest.name, "executable": guest.executable, "requirements": text.split("\n")[:-1]}, file
            )
        try:
            os.rename(made, folder)
        except OSError:  # another process was faster
            if not os.path.isfile(os.path.join(folder, _TOLD)):
                raise
    return folder


def _parent() -> str:
    folder = cache_folder("packages")
    if folder is None:
        raise PackagesError("there is no folder for packages: set XDG_CACHE_HOME, or HOME, to an absolute path")
    return folder


def _installer(guest: "Guest") -> tuple[str, list[str]]:
    """Returns the name of what installs packages here, and the beginning of its command: wheels only, and no .pyc."""
    wheels = ["--quiet", "--only-binary", ":all:"]
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-I", "-m", "pip", "--python", guest.executable, "--no-input", "install"]
        return "pip", [*pip, "--disable-pip-version-check", "--root-user-action", "ignore", "--no-compile", *wheels]
    uv = shutil.which("uv") or shutil.which("uv", path=os.path.dirname(sys.executable))
    if uv is None:
        raise PackagesError(
            f"requirements need pip beside proxybox, or uv on PATH: {sys.executable} -m ensurepip, or pip install "
            "'proxybox[packages]'"
        )
    return "uv", [uv, "pip", "install", "--python", guest.executable, "--link-mode", "copy", *wheels]


def _install(text: str, folder: str, work: str, guest: "Guest") -> None:
    """Installs wheels. The guest's interpreter is asked for its tags and its markers, outside of a box."""
    installer, command = _installer(guest)
    listed = os.path.join(work, "requirements.txt")
    with open(listed, "w", encoding="utf-8") as file:
        file.write(text)
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED and name[:6] != "PYTHON"}
    done = subprocess.run(
        [*command, "--target", folder, "--requirement", listed],
        cwd=work, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        timeout=_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.splitlines()
        said = [line for line in lines if line.startswith("ERROR")] or lines[-_MOST_LINES:]
        why = "\n".join(line.removeprefix("ERROR: ") for line in said) or f"exit status {done.returncode}"
        hint = f"\n{_NO_WHEEL}" if any(words in why for words in _SAYS_NO_WHEEL) else ""
        raise PackagesError(f"packages for {guest.name}: {installer} could not install them:\n{why}{hint}")


# --- what is in the cache ---------------------------------------------------------------------------------------------


@attrs.frozen
class Cached:
    """Packages in the cache. used: when they were used last, in seconds since 1970. size: in bytes."""

    folder: str
    guest: str
    requirements: tuple[str, ...]
    used: float
    size: int


def cached() -> Iterator[Cached]:
    """Yields what is in the cache, the least recently used first."""
    found = []
    for folder in _folders():
        try:
            used = os.stat(os.path.join(folder, _TOLD)).st_mtime
            with open(os.path.join(folder, _TOLD), encoding="utf-8") as file:
                told: dict[str, Any] = json.load(file)
            found.append(Cached(folder, told["guest"], tuple(told["requirements"]), used, _size(folder)))
        except (OSError, ValueError, LookupError, TypeError):  # removed meanwhile, or not ours
            continue
    return iter(sorted(found, key=lambda each: each.used))


def prune(older_than: float = 0) -> list[Cached]:
    """Removes packages that were not used for that many seconds. Returns those that are gone.

    Boxes that run meanwhile lose the files that they have not read yet.
    """
    gone = [each for each in cached() if time.time() - each.used >= older_than]
    for each in gone:
        shutil.rmtree(each.folder, ignore_errors=True)
    return gone


def _folders() -> list[str]:
    parent = cache_folder("packages") or ""
    try:
        return [os.path.join(parent, name) for name in sorted(os.listdir(parent)) if not name.startswith(".")]
    except OSError:
        return []


def _size(folder: str) -> int:
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names)

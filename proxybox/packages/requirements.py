"""What a requirements file (pip's format) or the inline metadata of a script (PEP 723) asks for.

Only what leads to wheels from an index is accepted: paths, version control and editable installs would build, and so
run, somebody's code here.
"""

import os
import re
import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from proxybox.controller.errors import PackagesError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from proxybox.controller.guests.guest import Guest

#: Options of a requirements file that say where wheels are and which are meant.
_OPTIONS = ("-i", "--index-url", "--extra-index-url", "--no-index", "-f", "--find-links", "--pre", "--require-hashes")
#: Options that name another file of requirements.
_FILES = ("-r", "--requirement")
_HASHES = re.compile(r"(\s+--hash[= ]\S+)+\s*$")
_MOST, _DEEPEST = 1 << 20, 8
_BUILDS = (
    "would be built here, which runs its code on this side. Build it yourself where you trust it (pip wheel, or pip "
    "install --target FOLDER), and name the folder with --packages"
)


def wanted(path: str, guest: "Guest") -> str:
    """Returns lines of a requirements file that say all that `path` asks for.

    Raises PackagesError for what cannot be read, makes no sense, or asks for a build.
    """
    if path.endswith(".py"):
        return "\n".join(_inline(path, guest)) + "\n"
    return "\n".join(_lines(path, 0)) + "\n"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MOST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise PackagesError(f"{path}: cannot be read: {error}") from error
    if len(text) > _MOST:
        raise PackagesError(f"{path}: more than 1 MiB is no requirements file")
    return text


def _lines(path: str, depth: int) -> Iterator[str]:
    """Yields the lines of a requirements file and of those that it names."""
    if depth > _DEEPEST:
        raise PackagesError(f"{path}: files of requirements that name each other {_DEEPEST} times")
    for number, text in enumerate(re.sub(r"\\\n", " ", _read(path)).splitlines(), 1):
        line = re.sub(r"(^|\s+)#.*$", "", text).strip()
        where = f"{path}, line {number}"
        if not line:
            continue
        option, _, value = line.replace("=", " ", 1).partition(" ") if line.startswith("-") else ("", "", "")
        if option in _FILES:
            yield from _lines(os.path.join(os.path.dirname(path), value.strip()), depth + 1)
        elif option in ("-f", "--find-links") and "://" not in value:
            yield f"{option} {os.path.join(os.path.dirname(os.path.abspath(path)), value.strip())}"
        elif option in _OPTIONS:
            yield line
        elif option:
            raise PackagesError(f"{where}: {option}: want a requirement, or one of {', '.join((*_OPTIONS, *_FILES))}")
        else:
            _parsed(where, _HASHES.sub("", line))
            yield line


def _parsed(where: str, text: str) -> "Requirement":
    """Returns a requirement (PEP 508) that leads to wheels."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ModuleNotFoundError:
        raise PackagesError("requirements need `packaging` here: pip install 'proxybox[packages]'") from None
    try:
        found = Requirement(text)
    except InvalidRequirement as error:
        if re.match(r"[\w.+-]*[/\\]|\w+\+\w+:|file:|https?:", text):
            raise PackagesError(f"{where}: {text}: {_BUILDS}") from None
        reason = str(error).splitlines()[0]
        raise PackagesError(f"{where}: {text!r} is no requirement (PEP 508): {reason}") from None
    if found.url and not found.url.partition("#")[0].endswith(".whl"):
        raise PackagesError(f"{where}: {text}: {_BUILDS}")
    return found


def _inline(path: str, guest: "Guest") -> Iterator[str]:
    """Yields the requirements of a script."""
    metadata = _metadata(path)
    dependencies, python = metadata.get("dependencies", []), metadata.get("requires-python", "")
    if not isinstance(dependencies, list) or not isinstance(python, str):
        raise PackagesError(f'{path}: # /// script: want dependencies = [...] and requires-python = "..."')
    for each in dependencies:
        if not isinstance(each, str):
            raise PackagesError(f"{path}: # /// script: dependencies: want texts, got {each!r}")
        if _parsed(f"{path}: # /// script", each).url:
            raise PackagesError(
                f"{path}: # /// script: {each}: names an address, and the script may be anybody's: write it into a "
                "requirements file of your own"
            )
        yield each
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = SpecifierSet(python).contains(".".join(map(str, guest.version)) + ".99")
    except InvalidSpecifier:
        raise PackagesError(f"{path}: # /// script: requires-python = {python!r} is no set of versions") from None
    if not fits:
        raise PackagesError(
            f"{path} is for Python {python}, and {guest.executable} is {guest.name}: name another --guest"
        )


def _metadata(path: str) -> dict[str, Any]:
    """Returns the block `# /// script` of a script. Each of its lines is a comment, and the last one is `# ///`."""
    block: list[str] | None = None
    blocks = []
    for line in _read(path).splitlines():
        if block is None:
            block = [] if line == "# /// script" else None
        elif line == "# ///":
            blocks.append("\n".join(block))
            block = None
        elif line == "#" or line.startswith("# "):
            block.append(line[2:])
        else:
            block = None  # no block: it was not closed
    if len(blocks) != 1:
        told = "several blocks" if blocks else "no block"
        raise PackagesError(f"{path}: {told} of inline metadata (PEP 723: # /// script ... # ///): want one")
    try:
        return tomllib.loads(blocks[0])
    except tomllib.TOMLDecodeError as error:
        raise PackagesError(f"{path}: # /// script: {error}") from None

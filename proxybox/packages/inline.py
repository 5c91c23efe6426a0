"""The inline metadata of a script (PEP 723)."""

from typing import TYPE_CHECKING, Any

from proxybox.controller.errors import PackagesError

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest


#: The most characters of a block.
_MOST = 1 << 13


def dependencies(path: str, text: str, guest: "Guest") -> list[str]:
    """Returns the texts of the requirements that a script names.

    Raises PackagesError for invalid metadata, or metadata for another Python than the guest's.
    """
    metadata = _metadata(path, text)
    found, python = metadata.get("dependencies", []), metadata.get("requires-python", "")
    if not isinstance(found, list) or not isinstance(python, str):
        raise PackagesError(f'{path}: # /// script: want dependencies = [...] and requires-python = "..."')
    for each in found:
        if not isinstance(each, str):
            raise PackagesError(f"{path}: # /// script: dependencies: want texts, got {each!r}")
    _check_python(path, python, guest)
    return found


def _check_python(path: str, python: str, guest: "Guest") -> None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = SpecifierSet(python).contains(".".join(map(str, guest.version)) + ".99")
    except InvalidSpecifier:
        raise PackagesError(f"{path}: # /// script: requires-python = {python!r} is no set of versions") from None
    if not fits:
        raise PackagesError(
            f"{path} is for Python {python}, and {guest.executable} is {guest.name}: name another --guest"
        )


def _metadata(path: str, text: str) -> dict[str, Any]:
    """Returns the block `# /// script` of a script. Each of its lines is a comment, and the last one is `# ///`."""
    block: list[str] | None = None
    blocks = []
    for line in text.splitlines():
        if block is None:
            block = [] if line == "# /// script" else None
        elif line == "# ///":
            blocks.append("\n".join(block))
            block = None
        elif line == "#" or line.startswith("# "):
            block.append(line[2:])
        else:
            block = None  # not closed, so no block
    if len(blocks) != 1:
        count = "several blocks" if blocks else "no block"
        raise PackagesError(f"{path}: {count} of inline metadata (PEP 723: # /// script ... # ///): want one")
    if len(blocks[0]) > _MOST:
        raise PackagesError(f"{path}: # /// script: {len(blocks[0])} characters of metadata: want at most {_MOST}")
    from proxybox.policies import toml

    try:
        return toml.loads(blocks[0])
    except ValueError as error:
        raise PackagesError(f"{path}: # /// script: {error}") from None

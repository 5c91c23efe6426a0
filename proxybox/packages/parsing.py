"""Parses one requirement or address, and writes it anew from its fields alone.

Rule: no foreign text reaches an installer. The written text is one line of printable ASCII without "$", because
installers replace $NAME by environment variables.
"""

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import attrs

from proxybox.controller.errors import PackagesError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

#: The most characters of a requirement without its hashes. The longest ones in practice have about 300.
_LONGEST = 2000
_HARMLESS = re.compile(r"[ -#%-~]+")  # printable ASCII without $
_ARBITRARY = re.compile(r"===[A-Za-z0-9._+!-]+")
#: Suffixes by which an installer distinguishes a file of the current folder from a name.
_FILES = (".whl", ".zip", ".tar", ".gz", ".bz2", ".xz", ".tgz", ".tbz", ".zst", ".egg", ".toml", ".txt", ".in", ".py")
_LOOKS_LIKE_A_PLACE = re.compile(r"[\w.+-]*[/\\]|\w+\+\w+:|file:|https?:")
_FROM_ELSEWHERE = ("git+", "hg+", "svn+", "bzr+")
BUILDS = (
    "would be built here, which runs its code on this side. Build it yourself where you trust it (pip wheel, or pip "
    "install --target FOLDER), and name the folder with --packages"
)


@attrs.frozen
class Wish:
    """A requirement. name: normalised. line: for the installer. url: of its wheel, if it names one.

    hashes: of the allowed files, as NAME:DIGEST.
    """

    name: str
    line: str
    url: str = ""
    hashes: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return " ".join((self.line, *(f"--hash={each}" for each in sorted(self.hashes))))


def wish(where: str, text: str, hashes: frozenset[str] = frozenset(), *, is_script: bool = False) -> Wish:
    """Parses a requirement (PEP 508). Raises PackagesError for any other text.

    where: the beginning of error messages. is_script: it is in a script, which anybody may have written, and so must
    not name an address.
    """
    if len(text) > _LONGEST:
        raise PackagesError(f"{where}: a requirement of {len(text)} characters: want at most {_LONGEST}")
    found = _parsed(where, text)
    from packaging.utils import canonicalize_name

    if found.url and is_script:
        raise PackagesError(
            f"{where}: {text.strip()}: names an address, and the script may be anybody's: write it into a requirements "
            "file of your own"
        )
    if found.url and not address(where, found.url).path.endswith(".whl"):  # only the path, not the query
        raise PackagesError(f"{where}: {text.strip()}: {BUILDS}")
    if not found.url and found.name.lower().endswith(_FILES):
        raise PackagesError(f"{where}: {found.name}: names a file: want the name of a package")
    specifiers = sorted(map(str, found.specifier))
    for each in specifiers:
        if each.startswith("===") and (is_script or not _ARBITRARY.fullmatch(each)):
            raise PackagesError(f"{where}: {found.name}{each}: want a version after ==")
    line = found.name + (f"[{','.join(sorted(found.extras))}]" if found.extras else "")
    line += f" @ {found.url}" if found.url else ",".join(specifiers)
    line += f" ; {found.marker}" if found.marker else ""
    if not _HARMLESS.fullmatch(line):
        raise PackagesError(f"{where}: {line!r}: want printable ASCII without $")
    return Wish(canonicalize_name(found.name), line, found.url or "", hashes)


def _parsed(where: str, text: str) -> "Requirement":
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        found = Requirement(text)
        str(found.marker)  # str() is as recursive as the parser
        return found
    except RecursionError:
        raise PackagesError(f"{where}: a marker with too many parentheses") from None
    except InvalidRequirement as error:
        if _LOOKS_LIKE_A_PLACE.match(text):
            raise PackagesError(f"{where}: {text}: {BUILDS}") from None
        reason = str(error).splitlines()[0]
        raise PackagesError(f"{where}: {text!r} is no requirement (PEP 508): {reason}") from None


def address(where: str, url: str) -> SplitResult:
    """Returns the parts of the address of a file or an index. Raises PackagesError for an invalid address."""
    try:
        found = urlsplit(url)
        _, host = found.port, found.hostname
    except ValueError as error:
        raise PackagesError(f"{where}: {url!r}: {error}") from None
    if found.scheme.startswith(_FROM_ELSEWHERE):
        raise PackagesError(f"{where}: {url}: {BUILDS}")
    if "$" in url:
        raise PackagesError(
            f"{where}: {url}: variables are not filled in: name an index with a password in PIP_INDEX_URL, or in the "
            "configuration of pip or uv"
        )
    fits = found.scheme in ("https", "http", "file") and bool(host) == (found.scheme != "file")
    if not fits or not re.fullmatch(r"[!-~]+", url):
        raise PackagesError(f"{where}: {url!r}: want https://HOST/..., http://HOST/... or file:///...")
    return found


def without_password(url: str) -> str:
    """Returns an address without the name and the password in it."""
    found = urlsplit(url)
    return found._replace(netloc=found.netloc.rpartition("@")[2]).geturl()

"""Finds out which packages to install: names, versions, and for each a wheel with its hash. A confined uv does it.

uv runs twice. First it reads no foreign data, and asks for the guest's facts, which it stores in its cache
(answering.py). Then it reads requirements, indexes and the metadata of packages, in a process that cannot start
anything but uv (child.py), with an empty home and folder, no configuration, and only listed variables. Its answer has
the form of PEP 751.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import attrs

from proxybox.controller.errors import PackagesError
from proxybox.packages import answering
from proxybox.packages.helper import network, work_on
from proxybox.packages.indexes import Indexes
from proxybox.packages.parsing import address
from proxybox.packages.requirements import Wanted
from proxybox.policies import toml

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest

_SECONDS = 120
_FILE, _SHA256 = re.compile(r"[A-Za-z0-9._+!-]{1,200}\.whl"), re.compile(r"sha256:[0-9a-f]{64}")
_MOST, _MOST_PACKAGES = 16 << 20, 2000
#: These options allow only wheels, no configuration, and no Python of uv's own.
_OPTIONS = (
    "pip", "compile", "--quiet", "--no-build", "--no-config", "--no-sources", "--no-python-downloads", "--no-header",
    "--no-annotate", "--generate-hashes", "--format", "pylock.toml",
)  # fmt: skip
#: Its memory is limited (child.py), and each thread takes some: so it uses as few threads as on a small machine.
_THREADS = {"TOKIO_WORKER_THREADS": "4", "RAYON_NUM_THREADS": "4"}
#: uv's messages for a missing wheel.
_SAYS_NO_WHEEL = ("no wheels", "no usable wheels", "Building source distributions")
_NO_WHEEL = (
    "only wheels are installed: what has none for this interpreter would be built here, which runs its code on this "
    "side. Build it yourself where you trust it (pip install --target FOLDER), and name the folder with --packages"
)


@attrs.frozen(kw_only=True)
class Wheel:
    """A wheel to install. url: https, http or file. size: in bytes; 0 if it is not known.

    hashes: as NAME:DIGEST; its file has the first one, and one of the others if there are any.
    """

    name: str
    version: str
    file: str
    url: str
    size: int
    hashes: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The digits of the first hash."""
        return self.hashes[0].removeprefix("sha256:")


def resolve(wanted: Wanted, indexes: Indexes, guest: "Guest", work: str) -> list[Wheel]:
    """Returns the wheels that fulfil requirements. work: a folder for temporary files.

    Raises PackagesError when there are none.
    """
    program = _uv()
    if os.statvfs(work).f_flag & os.ST_NOEXEC:
        raise PackagesError(f"{work}: no program can be started there (noexec): set XDG_CACHE_HOME to another folder")
    cache, out = (os.path.join(work, name) for name in ("cache", "out"))
    requirements, interpreter = (os.path.join(work, name) for name in ("requirements.in", "interpreter"))
    lock = os.path.join(out, "pylock.toml")
    for each in (cache, out):
        os.mkdir(each)
    answering.interpreter(interpreter, guest, cache)
    with open(requirements, "w", encoding="utf-8") as file:
        file.writelines(f"{each.line}\n" for each in wanted.wishes)
    options = (*_OPTIONS, "--cache-dir", cache, "--python", interpreter)
    _ask(program, options, work)
    environment = {**network(), **_environment(indexes), "TMPDIR": cache}
    task = {
        "program": program,
        "arguments": [
            *options, *(("--no-index",) if indexes.is_none else ()), *(("--prerelease", "allow") if wanted.pre else ()),
            *(word for each in indexes.folders for word in ("--find-links", each)), "--output-file", lock, requirements,
        ],
    }  # fmt: skip
    try:
        work_on(
            task, work, environment=environment, reads=[requirements, interpreter, *local(wanted, indexes)],
            writes=[cache, out],
        )  # fmt: skip
    except PackagesError as error:
        hint = f"\n{_NO_WHEEL}" if any(words in str(error) for words in _SAYS_NO_WHEEL) else ""
        raise PackagesError(f"{error}{hint}") from None
    return list(_Choice(wanted, out, answering.tags(guest)).wheels(_read(lock)))


def _uv() -> str:
    import uv

    try:
        return os.path.realpath(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise PackagesError(f"uv lacks its program: {error}: pip install --force-reinstall uv") from None


def _ask(program: str, options: Sequence[str], work: str) -> None:
    """Lets uv ask for the guest's facts, before it reads any foreign data."""
    nothing = os.path.join(work, "nothing.in")
    with open(nothing, "wb"):
        pass
    empty = os.path.join(work, "empty")
    try:
        done = subprocess.run(
            [program, *options, "--offline", nothing], cwd=empty, env={"HOME": empty, "TMPDIR": work},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackagesError(f"uv: {error}") from None
    if done.returncode:
        raise PackagesError(done.stderr.decode(errors="replace").strip())


def _environment(indexes: Indexes) -> dict[str, str]:
    """Returns variables with the indexes: other users cannot see variables, and indexes may contain passwords."""
    found = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1", "UV_NO_PROGRESS": "1", **_THREADS}
    if indexes.default:
        found["UV_DEFAULT_INDEX"] = indexes.default
    if indexes.extra:
        found["UV_INDEX"] = " ".join(indexes.extra)
    return found


def local(wanted: Wanted, indexes: Indexes) -> Iterator[str]:
    """Yields the files and folders of wheels on this machine, which children may read. Raises PackagesError."""
    home = os.path.realpath(os.path.expanduser("~"))
    for each in (indexes.default or "", *indexes.extra, *indexes.folders, *(wish.url for wish in wanted.wishes)):
        if each and (each.startswith("file:") or "://" not in each):
            path = unquote(urlsplit(each).path) if each.startswith("file:") else each
            if f"{home}/".startswith(f"{os.path.realpath(path).rstrip('/')}/"):
                raise PackagesError(f"{path}: want a folder of wheels alone: your home is in this one")
            yield path


# --- what uv answers --------------------------------------------------------------------------------------------------


def _read(path: str) -> list[Mapping[str, Any]]:
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST + 1)
        found = toml.loads(text.decode()).get("packages", []) if len(text) <= _MOST else None
    except (OSError, ValueError) as error:
        raise PackagesError(f"uv has found no packages that can be read: {error}") from None
    if not isinstance(found, list) or len(found) > _MOST_PACKAGES:
        raise PackagesError(f"uv has found more than {_MOST_PACKAGES} packages")
    return found


@attrs.frozen
class _Choice:
    """Chooses wheels. folder: to which paths are relative. tags: of wheels that fit the guest, the best first."""

    wanted: Wanted
    folder: str
    tags: Sequence[str]

    def wheels(self, packages: Sequence[Mapping[str, Any]]) -> Iterator[Wheel]:
        """Yields the wheel of each package."""
        listed: dict[str, set[str]] = {}
        for wish in self.wanted.wishes:
            listed.setdefault(wish.name, set()).update(wish.hashes)
        ranks = {tag: rank for rank, tag in reversed(list(enumerate(self.tags)))}
        for each in packages:
            name, version = str(each.get("name")), str(each.get("version"))
            own = listed.get(name, set())
            if self.wanted.hashes and not own:
                raise PackagesError(f"{name}=={version}: has no --hash, and all need one as soon as one has")
            files = each["wheels"] if "wheels" in each else [each.get("archive", {})]
            found = [wheel for file in files for wheel in self._fitting(name, version, file, own, ranks)]
            if not found:
                raise PackagesError(f"{name}=={version}: has no wheel for this interpreter. {_NO_WHEEL}")
            yield min(found, key=lambda each: each[0])[1]

    def _fitting(
        self, name: str, version: str, file: Mapping[str, Any], own: set[str], ranks: Mapping[str, int]
    ) -> Iterator[tuple[tuple[bool, int], Wheel]]:
        """Yields a wheel if it fits the interpreter, with its rank; wheels whose hash is listed come first."""
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        url, size = file.get("url"), file.get("size")
        if not isinstance(url, str):
            url = Path(self.folder, str(file.get("path", ""))).resolve().as_uri()
        called = unquote(address(f"{name}=={version}", url).path.rpartition("/")[2])
        digest = f"sha256:{file.get('hashes', {}).get('sha256')}"
        try:
            package, _, _, tags = parse_wheel_filename(called)
        except InvalidWheelFilename:
            return
        fits = [ranks[str(tag)] for tag in tags if str(tag) in ranks]
        if package == name and fits and _FILE.fullmatch(called) and _SHA256.fullmatch(digest):
            size = size if isinstance(size, int) else 0
            hashes = (digest, *sorted(own))
            wheel = Wheel(name=name, version=version, file=called, url=url, size=size, hashes=hashes)
            yield (bool(own) and digest not in own, min(fits)), wheel

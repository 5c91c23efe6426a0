"""Where to search for packages: the indexes and folders of wheels that requirements name, and the caller's own.

The caller's own are in pip's and uv's variables and configuration files, which are read here. uv itself sees neither:
it would use other settings of them, and files of the current folder.
"""

import configparser
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from proxybox.controller.errors import PackagesError
from proxybox.packages.parsing import address, without_password
from proxybox.policies import toml

_MOST = 1 << 20


@attrs.frozen(kw_only=True)
class Indexes:
    """default: the index in the place of pypi.org. extra: indexes that come before it. folders: of wheels, on this
    machine, or pages with links to wheels. is_none: no index is used.
    """  # noqa: D205 - fields

    default: str | None = None
    extra: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    is_none: bool = False

    def over(self, other: "Indexes") -> "Indexes":
        """Returns these, completed by the settings of `other`."""
        return Indexes(
            default=self.default or other.default,
            extra=tuple(dict.fromkeys(self.extra + other.extra)),
            folders=tuple(dict.fromkeys(self.folders + other.folders)),
            is_none=self.is_none or other.is_none,
        )

    def lines(self) -> Iterator[str]:
        """Yields them as the lines of a requirements file, without passwords."""
        if self.default:
            yield f"--index-url {without_password(self.default)}"
        yield from (f"--extra-index-url {without_password(each)}" for each in self.extra)
        yield from (f"--find-links {without_password(each) if '://' in each else each}" for each in self.folders)
        if self.is_none:
            yield "--no-index"


def folder(where: str, value: str, base: str) -> str:
    """Returns the value of --find-links: an address, or a folder's path, made absolute by `base`."""
    if "://" in value:
        address(where, value)
        return value
    path = os.path.normpath(os.path.join(base, os.path.expanduser(value)))
    if not path.isprintable():
        raise PackagesError(f"{where}: {path!r}: want a path of printable characters")
    return path


def configured() -> Indexes:
    """Returns the caller's own indexes: variables have priority over files, and uv's over pip's."""
    found = Indexes()
    for each in (_uv_variables(), _pip_variables(), *_uv_files(), *_pip_files()):
        found = found.over(each)
    return found


def _indexes(
    where: str, default: object = None, extra: Iterable[object] = (), folders: Iterable[object] = (),
    is_none: bool = False,
) -> Indexes:  # fmt: skip
    """Makes Indexes from configured values. Raises PackagesError for invalid values."""
    texts = [default] if default else []
    for value in (*texts, *extra, *folders):
        if not isinstance(value, str):
            raise PackagesError(f"{where}: {value!r}: want the address of an index")
    for value in (*texts, *extra):
        address(where, str(value))
    return Indexes(
        default=str(default) if default else None,
        extra=tuple(map(str, extra)),
        folders=tuple(folder(where, str(each), "/") for each in folders),
        is_none=is_none,
    )


def _is_on(value: object) -> bool:
    return str(value).strip().lower() in ("1", "true", "yes", "on", "y", "t")


# --- uv ---------------------------------------------------------------------------------------------------------------


def _uv_variables() -> Indexes:
    def get(name: str) -> str:
        return os.environ.get(name, "")

    named = [_unnamed(each) for each in get("UV_INDEX").split()]
    return _indexes(
        "UV_DEFAULT_INDEX, UV_INDEX, UV_FIND_LINKS",
        _unnamed(get("UV_DEFAULT_INDEX")) or get("UV_INDEX_URL"),
        (*named, *get("UV_EXTRA_INDEX_URL").split()),
        [each for each in get("UV_FIND_LINKS").split(",") if each],
        _is_on(get("UV_NO_INDEX")),
    )


def _unnamed(text: str) -> str:
    """Returns the URL of an index, which may be written NAME=URL."""
    name, equals, url = text.partition("=")
    return url if equals and "/" not in name else text


def _uv_files() -> Iterator[Indexes]:
    named = os.environ.get("UV_CONFIG_FILE")
    for path in [named] if named else [f"{_config_home()}/uv/uv.toml", "/etc/uv/uv.toml"]:
        text = _text(path)
        if text is None:
            continue
        try:
            found = toml.loads(text)
        except ValueError as error:
            raise PackagesError(f"{path}: {error}") from None
        for table in (found.get("pip"), found):
            if isinstance(table, dict):
                yield _uv_table(path, table)


def _uv_table(path: str, table: Mapping[str, Any]) -> Indexes:
    listed = [each for each in _list(table.get("index")) if isinstance(each, dict) and each.get("explicit") is not True]
    default = [each.get("url") for each in listed if each.get("default") is True]
    others = [each.get("url") for each in listed if each.get("default") is not True]
    return _indexes(
        path,
        default[0] if default else table.get("index-url"),
        (*others, *_list(table.get("extra-index-url"))),
        _list(table.get("find-links")),
        table.get("no-index") is True,
    )


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


# --- pip --------------------------------------------------------------------------------------------------------------


def _pip_variables() -> Indexes:
    values = {name[4:].lower().replace("_", "-"): value for name, value in os.environ.items() if name[:4] == "PIP_"}
    return _pip_values("PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS", values)


def _pip_values(where: str, values: Mapping[str, str]) -> Indexes:
    return _indexes(
        where,
        values.get("index-url", "").strip(),
        values.get("extra-index-url", "").split(),
        values.get("find-links", "").split(),
        _is_on(values.get("no-index", "")),
    )


def _pip_files() -> Iterator[Indexes]:
    named = os.environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:  # this is how pip says: none
        return
    places = [named, f"{sys.prefix}/pip.conf", f"{_config_home()}/pip/pip.conf", "~/.pip/pip.conf"]
    for path in (*places, "/etc/pip.conf", "/etc/xdg/pip/pip.conf"):
        text = _text(os.path.expanduser(path))
        if text is None:
            continue
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(text, path)
        except configparser.Error as error:
            raise PackagesError(f"{path}: {error}") from None
        for section in ("install", "global"):
            if parser.has_section(section):
                yield _pip_values(path, {key.replace("_", "-"): value or "" for key, value in parser.items(section)})


def _config_home() -> str:
    named = os.environ.get("XDG_CONFIG_HOME", "")
    return named if os.path.isabs(named) else os.path.expanduser("~/.config")


def _text(path: str) -> str | None:
    """Returns the text of a configuration file; None if there is none, or if it cannot be read."""
    if not os.path.isabs(path):
        return None
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MOST)
    except OSError:
        return None

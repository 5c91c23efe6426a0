"""Bearer keys: who may use the service (RFC 6750).

    pbx_3f0c2a9d5b7e_Vb1...      the key's id, which may be seen, and a secret of 256 random bits, which is shown once

A file holds what is known of each key: its id, its name, the SHA-256 of its secret (it is random, so nothing slower is
needed), and what it may use. The service looks at the file's status for each request, so that a key which was revoked
is refused from then on. The file is replaced as a whole, so that a reader never sees half of one.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from proxybox.policies.errors import ProxyboxError
from proxybox.policies.regularfiles import regular
from proxybox.serve.replacing import replace

_PREFIX: Final = "pbx"
_KEY: Final = re.compile(r"pbx_([0-9a-f]{12})_([A-Za-z0-9_-]{43})\Z")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_MOST: Final = 8 << 20
#: What a key that does not exist is compared with, so that it takes as long to be refused as a wrong one.
_NOBODY: Final = hashlib.sha256(secrets.token_bytes(32)).hexdigest()


class KeysError(ProxyboxError):
    """The file of keys cannot be used, or what is wanted of it makes no sense."""


@attrs.frozen(kw_only=True)
class Key:
    """What is known of a key.

    digest: of its secret. made, revoked: seconds since 1970. policies: those that it may name; None for all.
    concurrency: how many of its runs may go on at once, in place of the service's number.
    """

    id: str
    name: str
    digest: str = attrs.field(repr=False)
    made: float
    revoked: float | None = None
    policies: tuple[str, ...] | None = None
    concurrency: int | None = None


class Keys:
    """The keys in one file. A file that does not exist holds none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._seen: tuple[int, ...] | None = None
        self._known: Mapping[str, Key] = {}

    # --- for the service ----------------------------------------------------------------------------------------------

    def find(self, presented: str) -> Key | None:
        """Returns the key that was presented; None for one that is unknown, wrong or revoked. Raises KeysError."""
        match = _KEY.match(presented)
        identity, secret = match.groups() if match else ("", "")
        key = self.known().get(identity)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        is_right = hmac.compare_digest(digest, _NOBODY if key is None else key.digest)
        return key if is_right and key is not None and key.revoked is None else None

    def known(self) -> Mapping[str, Key]:
        """Returns all keys by their ids, as the file has them now. Raises KeysError."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            self._seen, self._known = None, {}
            return self._known
        except OSError as error:
            raise KeysError(f"{self.path}: {error.strerror}") from None
        seen = status.st_ino, status.st_mtime_ns, status.st_size
        if seen != self._seen:
            self._known, self._seen = _read(self.path), seen
        return self._known

    @property
    def are_needed(self) -> bool:
        """Whether there is a key that was not revoked. Raises KeysError."""
        return any(key.revoked is None for key in self.known().values())

    # --- for whoever keeps them ---------------------------------------------------------------------------------------

    def add(self, name: str, *, policies: tuple[str, ...] | None = None, concurrency: int | None = None) -> str:
        """Makes a key and returns it: the only time that anybody sees it. Raises KeysError."""
        if not _NAME.match(name):
            raise KeysError(f"want a name of at most 64 letters, digits, '.', '_', '@' and '-', got {name[:80]!r}")
        identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        with self._changing() as known:
            if any(key.name == name and key.revoked is None for key in known.values()):
                raise KeysError(f"there is a key of the name {name!r}: revoke it before, or choose another name")
            known[identity] = Key(
                id=identity, name=name, digest=hashlib.sha256(secret.encode()).hexdigest(), made=time.time(),
                policies=policies, concurrency=concurrency,
            )  # fmt: skip
        return f"{_PREFIX}_{identity}_{secret}"

    def revoke(self, name: str) -> Key:
        """Revokes the key of this name or id. Raises KeysError."""
        with self._changing() as known:
            found = [key for key in known.values() if name in (key.id, key.name) and key.revoked is None]
            if not found:
                raise KeysError(f"there is no key {name!r} that could be revoked (proxybox serve keys list)")
            known[found[0].id] = attrs.evolve(found[0], revoked=time.time())
        return found[0]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Key]]:
        """Yields the keys to change, and writes them. One process at a time can do so (flock(2))."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(self.path.with_name(self.path.name + ".lock"), "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                known = dict(self.known())
                yield known
                _write(self.path, known)
        except OSError as error:
            raise KeysError(f"{self.path}: {error.strerror}") from None


def _read(path: Path) -> dict[str, Key]:
    try:
        with open(path, "rb", opener=regular) as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST + 1)
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KeysError(f"{path}: others may write to it (chmod 600 {path})")
    if len(data) > _MOST:
        raise KeysError(f"{path}: larger than {_MOST >> 20} MiB")
    try:
        return {each["id"]: _key(each) for each in json.loads(data)["keys"]}
    except (ValueError, TypeError, KeyError) as error:
        raise KeysError(f"{path}: not a file of keys: {error}") from None


def _key(entry: Mapping[str, Any]) -> Key:
    policies = entry.get("policies")
    return Key(**{**entry, "policies": None if policies is None else tuple(policies)})


def _write(path: Path, known: Mapping[str, Key]) -> None:
    entries = [attrs.asdict(key) for key in known.values()]
    replace(path, json.dumps({"keys": entries}, indent=1).encode())

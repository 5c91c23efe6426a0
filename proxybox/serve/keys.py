"""Bearer keys: who may use the service (RFC 6750).

    pbx_3f0c2a9d5b7e_Vb1...      the key's id, which is public, and a secret of 256 random bits, which is shown once

A file stores for each key its id, its name, the SHA-256 of its secret (it is random, so no slower hash is needed), what
it may use, and when it expires. The service checks the file's status (stat(2)) for each request, so that a key is
refused as soon as it is revoked. The file is replaced as a whole, also on a full disk (replacing.py).

Once keys were made, a mark beside the file records that permanently. Then a missing file is an error, and does not mean
that there are no keys: a service whose last key was revoked, or whose file was lost, accepts no request.
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
from proxybox.serve.access import SCOPES
from proxybox.serve.replacing import give, is_of_folder, open_beside, read_rewritten, rewrite

_PREFIX: Final = "pbx"
_KEY: Final = re.compile(r"pbx_([0-9a-f]{12})_([A-Za-z0-9_-]{43})\Z")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_MOST: Final = 8 << 20
#: The most bytes by which a key's entry grows when it is revoked or rotated: that space is reserved in advance.
_GROWS: Final = 256
#: The digest with which an unknown key is compared, so that its refusal takes as long as that of a wrong secret.
_NOBODY: Final = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
_IS_DIGEST: Final = attrs.validators.matches_re(r"[0-9a-f]{64}")
_MARK: Final = "Keys were made for this service, or named in its configuration: it asks for one from now on.\n"


class KeysError(ProxyboxError):
    """The file of keys cannot be used, or a requested change is invalid."""


@attrs.frozen(kw_only=True)
class Key:
    """The entry of a key.

    digest: of its secret. made, revoked: seconds since 1970. expires: when it becomes invalid; None for never. scope:
    which paths it may use (access.py). policies: those that it may name; None for all. concurrency: how many of its
    runs may run at once, in place of the service's number. former: the digest of the secret that it had before it was
    rotated, which is valid until `former_expires`.
    """

    id: str
    name: str
    digest: str = attrs.field(repr=False, validator=_IS_DIGEST)
    made: float = attrs.field(converter=float)
    revoked: float | None = attrs.field(default=None, converter=attrs.converters.optional(float))
    expires: float | None = attrs.field(default=None, converter=attrs.converters.optional(float))
    scope: str = attrs.field(default="client", validator=attrs.validators.in_(SCOPES))
    policies: tuple[str, ...] | None = None
    concurrency: int | None = None
    former: str | None = attrs.field(default=None, repr=False, validator=attrs.validators.optional(_IS_DIGEST))
    former_expires: float = attrs.field(default=0.0, converter=float)

    @property
    def is_good(self) -> bool:
        """Whether it was not revoked and has not expired."""
        return self.revoked is None and (self.expires is None or time.time() < self.expires)

    def takes(self, digest: str) -> bool:
        """Returns whether the key has a secret of this digest now, in the same time for each digest."""
        is_own = hmac.compare_digest(digest, self.digest)
        is_former = hmac.compare_digest(digest, self.former or _NOBODY)
        return self.is_good and (is_own or (is_former and time.time() < self.former_expires))


_UNKNOWN: Final = Key(id="", name="", digest=_NOBODY, made=0.0)


class Keys:
    """The keys in one file. A missing file means no keys, unless keys were made before.

    has_room: whether another change is possible on a full disk after the latest one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.has_room = True
        self._seen: tuple[int, ...] | None = None
        self._known: Mapping[str, Key] = {}

    @property
    def _mark(self) -> Path:
        return mark_of(self.path)

    # --- for the service ----------------------------------------------------------------------------------------------

    def find(self, presented: str) -> tuple[Key, str] | None:
        """Returns the key that was presented, and the digest of its secret.

        None for a key that is unknown, wrong, revoked or expired. Raises KeysError.
        """
        match = _KEY.match(presented)
        identity, secret = match.groups() if match else ("", "")
        key = self.known().get(identity, _UNKNOWN)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        return (key, digest) if key.takes(digest) and key is not _UNKNOWN else None

    def known(self) -> Mapping[str, Key]:
        """Returns all keys by their ids, as they are in the file now. Raises KeysError."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            if self._seen is not None or os.path.lexists(self._mark):
                raise KeysError(
                    f"{self.path}: the file of keys is missing, though keys were made: bring it back, "
                    "or make a key (proxybox serve keys add NAME)"
                ) from None
            return {}
        except OSError as error:
            raise KeysError(f"{self.path}: {error.strerror}") from None
        if _seen(status) != self._seen:
            status, self._known = _read(self.path)
            self._seen = _seen(status)
        return self._known

    @property
    def were_made(self) -> bool:
        """Whether any key was ever made, even if it no longer exists. Raises KeysError when the file cannot be read."""
        self.known()
        return self._seen is not None or os.path.lexists(self._mark)

    # --- for whoever keeps them ---------------------------------------------------------------------------------------

    def add(
        self, name: str, *, policies: tuple[str, ...] | None = None, concurrency: int | None = None,
        scope: str = "client", expires: float | None = None,
    ) -> str:  # fmt: skip
        """Makes a key and returns it with its secret, which is not stored. Raises KeysError."""
        if not _NAME.match(name):
            raise KeysError(f"want a name of at most 64 letters, digits, '.', '_', '@' and '-', got {name[:80]!r}")
        if expires is not None and expires <= time.time():
            raise KeysError("want a time to come at which the key expires")
        identity, (secret, digest) = secrets.token_hex(6), _new_secret()
        with self._changing(makes=True) as known:
            if any(key.name == name and key.is_good for key in known.values()):
                raise KeysError(f"there is a key of the name {name!r}: revoke it before, or choose another name")
            known[identity] = Key(
                id=identity, name=name, digest=digest, made=time.time(), policies=policies, concurrency=concurrency,
                scope=scope, expires=expires,
            )  # fmt: skip
        return f"{_PREFIX}_{identity}_{secret}"

    def rotate(self, name: str, *, grace: float) -> tuple[str, Key]:
        """Gives the key of this name or id a new secret, and returns the new key and its entry.

        grace: seconds for which the secret before is still valid; older ones are not. Raises
        KeysError.
        """
        secret, digest = _new_secret()
        with self._changing() as known:
            key = _named(known, name)
            known[key.id] = attrs.evolve(key, digest=digest, former=key.digest, former_expires=time.time() + grace)
        return f"{_PREFIX}_{key.id}_{secret}", known[key.id]

    def revoke(self, name: str) -> Key:
        """Revokes the key of this name or id. Raises KeysError."""
        with self._changing() as known:
            key = _named(known, name)
            known[key.id] = attrs.evolve(key, revoked=time.time())
        return key

    @contextlib.contextmanager
    def _changing(self, *, makes: bool = False) -> Iterator[dict[str, Key]]:
        """Yields the keys to be changed, and then writes them. Only one process at a time can do so (flock(2)).

        makes: whether a missing file is made.
        """
        try:
            if makes:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            elif not self.path.exists():
                raise KeysError(f"{self.path}: there is no such file of keys")
            with open(open_beside(self.path.with_name(f"{self.path.name}.lock"), self.path.parent), "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                known = dict(self.known()) if self.path.exists() else {}
                yield known
                self.has_room = _write(self.path, known)
                mark(self._mark)  # after the file: a mark without a file is an error
        except OSError as error:
            raise KeysError(f"{error.filename or self.path}: {error.strerror}") from None


def mark_of(path: str | os.PathLike[str]) -> Path:
    """Returns the path of the mark which records that keys were made for the service of this file."""
    return Path(f"{os.fspath(path)}.made")


def mark(path: Path) -> None:
    """Records permanently that keys were made. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(descriptor, "w") as file:
            give(descriptor, path.parent)
            file.write(_MARK)
            file.flush()
            os.fsync(descriptor)


def _new_secret() -> tuple[str, str]:
    """Returns a new secret and its digest."""
    secret = secrets.token_urlsafe(32)
    return secret, hashlib.sha256(secret.encode()).hexdigest()


def _named(known: Mapping[str, Key], name: str) -> Key:
    """Returns the key of a name or an id that was not revoked; of several with a name, one that has not expired."""
    found = [key for key in known.values() if name in (key.id, key.name) and key.revoked is None]
    if not found:
        raise KeysError(f"there is no key {name!r}, or it was revoked (proxybox serve keys list)")
    return max(found, key=lambda key: key.is_good)


def _seen(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> tuple[os.stat_result, dict[str, Key]]:
    try:
        status, data = read_rewritten(path, _MOST)
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from None
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KeysError(f"{path}: others may write to it (chmod 600 {path})")
    if not is_of_folder(status, path):
        raise KeysError(f"{path}: it belongs to another user than its folder (remove it, or chown it)")
    if len(data) > _MOST:
        raise KeysError(f"{path}: larger than {_MOST >> 20} MiB")
    try:
        return status, {each["id"]: _key(each) for each in json.loads(data)["keys"]}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise KeysError(f"{path}: not a file of keys: {error}") from None


def _key(entry: Mapping[str, Any]) -> Key:
    policies = entry.get("policies")
    return Key(**{**entry, "policies": None if policies is None else tuple(policies)})


def _write(path: Path, known: Mapping[str, Key]) -> bool:
    text = json.dumps({"keys": [attrs.asdict(key) for key in known.values()]}, indent=1).encode()
    return rewrite(path, text, room=len(text) + _GROWS * len(known))

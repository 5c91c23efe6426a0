"""`proxybox serve`: runs the service, and manages its keys."""

import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxybox.cli.choosing import named_policy
from proxybox.cli.failures import CommandError, UsageError
from proxybox.cli.run import print_failure
from proxybox.policies.errors import PolicyError
from proxybox.policies.sizes import to_duration

if TYPE_CHECKING:
    from proxybox.serve.config import ServiceConfig
    from proxybox.serve.keys import Key, Keys

#: The most seconds of a duration.
_LONGEST = 100 * 366 * 86_400.0


def serve(
    *, config: Path | None, policies: Sequence[str], guest: str | None, packages: Sequence[str],
    preload: Sequence[str], require_keys: bool, check: bool, port: int | None = None, **options: Any,
) -> int:  # fmt: skip
    """Serves until a signal ends it. The exit status is 125 when it cannot, or when its test of itself fails."""
    try:
        changes: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
        if port is not None:
            if "listen" in changes:
                raise UsageError("--listen and --port exclude each other: --listen has a port of its own")
            changes["listen"] = f"127.0.0.1:{port}"
        if require_keys:
            changes["require_keys"] = True
        if policies:
            changes["policies"] = dict(map(_named_policy, policies))
        if guest or packages or preload:
            language = {"packages": [str(Path(each).absolute()) for each in packages], "preload": list(preload)}
            changes["languages"] = {"python": {**language, **({"guest": guest} if guest else {})}}
        chosen = _config(config, changes)
        from proxybox.serve.running import run

        return run(chosen, check=check)
    except ImportError as error:
        return print_failure(CommandError(str(error)))


def _config(path: Path | None, changes: dict[str, Any]) -> "ServiceConfig":
    try:
        from proxybox.serve.config import ServiceConfig, load_config
    except ImportError as error:
        raise CommandError(f"the service needs {error.name}: pip install 'proxybox[server]'") from None
    return ServiceConfig(**changes) if path is None else load_config(path, **changes)


def _named_policy(text: str) -> tuple[str, Any]:
    """Returns name and policy of [NAME=]PRESET|FILE. The default name is that of the preset, or of the file."""
    name, equals, meant = text.partition("=")
    if not equals:
        name, meant = Path(text).stem, text
    if not name or not meant:
        raise UsageError(f"--policy: want NAME=PRESET or NAME=FILE, got {text!r}")
    return name, named_policy(meant)


# --- keys -------------------------------------------------------------------------------------------------------------


def add_key(
    *, name: str, policies: Sequence[str], concurrency: int | None, scope: str, expires: str | None,
    config: Path | None, data: str | None, keys: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Makes a key and prints only the key on stdout, so that it can be piped."""
    key_store = _keys(config, data, keys)
    until = None if expires is None else _end_of(expires)
    key = key_store.add(name, policies=tuple(policies) or None, concurrency=concurrency, scope=scope, expires=until)
    _show(key, name, key_store, as_json=as_json)
    return 0


def rotate_key(*, name: str, grace: str, config: Path | None, data: str | None, keys: str | None, as_json: bool) -> int:
    """Gives a key another secret, and prints only the key on stdout."""
    key_store = _keys(config, data, keys, have_to_exist=True)
    key, known = key_store.rotate(name, grace=_duration(grace, "--grace"))
    _show(key, known.name, key_store, as_json=as_json, former_expires=known.former_expires)
    if not as_json:
        print(f"proxybox: the former one is good until {_moment(known.former_expires)}", file=sys.stderr)
    return 0


def _show(key: str, name: str, key_store: "Keys", *, as_json: bool, **more: Any) -> None:
    if as_json:
        print(json.dumps({"name": name, "key": key, "file": str(key_store.path), **more}))
    else:
        print(key)
        print(f"proxybox: the key of {name}, in {key_store.path}: it is not shown again", file=sys.stderr)
    if not key_store.has_room:
        print(f"proxybox: {key_store.path}: no room was left to revoke keys while the disk is full", file=sys.stderr)


def list_keys(*, config: Path | None, data: str | None, keys: str | None, as_json: bool) -> int:
    """Prints the keys."""
    known = list(_keys(config, data, keys, have_to_exist=True).known().values())
    if as_json:
        print(json.dumps([_told(key) for key in known], indent=1))
        return 0
    for key in known:
        print(f"{key.id}  {key.name:20}  {key.scope:8}  {_state(key)}{_limits(key)}")
    if not known:
        print("proxybox: there are no keys (proxybox serve keys add NAME)", file=sys.stderr)
    return 0


def revoke_key(*, name: str, config: Path | None, data: str | None, keys: str | None) -> int:
    """Revokes a key."""
    key = _keys(config, data, keys, have_to_exist=True).revoke(name)
    print(f"{key.id}  {key.name}: revoked")
    return 0


def _keys(config: Path | None, data: str | None, keys: str | None, *, have_to_exist: bool = False) -> "Keys":
    """Returns the keys of a service. have_to_exist: whether a named file or folder must exist."""
    from proxybox.serve.keys import Keys

    changes = {key: value for key, value in (("data", data), ("keys", keys)) if value is not None}
    chosen = _config(config, changes)
    if have_to_exist and chosen.keys is not None and not Path(chosen.keys).exists():
        raise CommandError(f"{chosen.keys}: there is no such file of keys")
    is_named = data is not None or config is not None
    if have_to_exist and chosen.keys is None and is_named and not Path(chosen.data).is_dir():
        raise CommandError(f"{chosen.data}: there is no such folder, where a service would have its keys")
    return Keys(chosen.keys_file)


def _end_of(text: str) -> float:
    """Returns when a key expires: after a duration, or at the beginning of a day in UTC."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return time.time() + _duration(text, "--expires")


def _duration(text: str, option: str) -> float:
    try:
        seconds = to_duration(text)
    except PolicyError:
        seconds = None
    if seconds is None or not 0 <= seconds <= _LONGEST:
        day = ", or a day such as 2030-01-31" if option == "--expires" else ""
        raise UsageError(f'{option}: want a duration such as "90d" or "12h"{day}, got {text!r}')
    return seconds


def _told(key: "Key") -> dict[str, Any]:
    return {
        "id": key.id, "name": key.name, "scope": key.scope, "made": key.made, "revoked": key.revoked,
        "expires": key.expires, "is_good": key.is_good,
        "former_expires": None if key.former is None else key.former_expires,
        "policies": None if key.policies is None else list(key.policies), "concurrency": key.concurrency,
    }  # fmt: skip


def _state(key: "Key") -> str:
    if key.revoked is not None:
        return f"revoked {_day(key.revoked)}"
    if key.expires is None:
        return f"made {_day(key.made)}"
    return f"made {_day(key.made)}, {'expires' if key.is_good else 'expired'} {_moment(key.expires)}"


def _limits(key: "Key") -> str:
    lines = []
    if key.policies is not None:
        lines.append(f"policies {', '.join(key.policies)}")
    if key.concurrency is not None:
        lines.append(f"{key.concurrency} at once")
    if key.is_good and key.former is not None and key.former_expires > time.time():
        lines.append(f"its former secret is good until {_moment(key.former_expires)}")
    return f"  ({'; '.join(lines)})" if lines else ""


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))

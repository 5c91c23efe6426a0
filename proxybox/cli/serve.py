"""`proxybox serve`: runs the service, and keeps its keys."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxybox.cli.choosing import named_policy
from proxybox.cli.failures import CommandError, UsageError
from proxybox.cli.run import tell_failure

if TYPE_CHECKING:
    from proxybox.serve.config import Config
    from proxybox.serve.keys import Key, Keys


def serve(
    *, config: Path | None, policies: Sequence[str], guest: str | None, packages: Sequence[str],
    preload: Sequence[str], require_keys: bool, check: bool, **options: Any,
) -> int:  # fmt: skip
    """Serves until it is told to end. The exit status is 125 when it cannot, or when it does not stand its trial."""
    try:
        changes: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
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
        return tell_failure(CommandError(str(error)))
    except Exception as error:
        return tell_failure(error)


def _config(path: Path | None, changes: dict[str, Any]) -> "Config":
    try:
        from proxybox.serve.config import Config, load_config
    except ImportError as error:
        raise CommandError(f"the service needs {error.name}: pip install 'proxybox[server]'") from None
    return Config(**changes) if path is None else load_config(path, **changes)


def _named_policy(text: str) -> tuple[str, Any]:
    """The policy of [NAME=]PRESET|FILE. Without a name it has that of the preset, or the file's without .toml."""
    name, equals, meant = text.partition("=")
    if not equals:
        name, meant = Path(text).stem, text
    if not name or not meant:
        raise UsageError(f"--policy: want NAME=PRESET or NAME=FILE, got {text!r}")
    return name, named_policy(meant)


# --- keys -------------------------------------------------------------------------------------------------------------


def add_key(
    *, name: str, policies: Sequence[str], concurrency: int | None, config: Path | None, data: str | None,
    keys: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Makes a key and prints it on stdout, alone, so that it can be piped to where it belongs."""
    try:
        kept = _keys(config, data, keys)
        key = kept.add(name, policies=tuple(policies) or None, concurrency=concurrency)
    except Exception as error:
        return tell_failure(error)
    if as_json:
        print(json.dumps({"name": name, "key": key, "file": str(kept.path)}))
    else:
        print(key)
        print(f"proxybox: the key of {name}, in {kept.path}: it is not shown again", file=sys.stderr)
    return 0


def list_keys(*, config: Path | None, data: str | None, keys: str | None, as_json: bool) -> int:
    """Prints the keys."""
    try:
        known = list(_keys(config, data, keys).known().values())
    except Exception as error:
        return tell_failure(error)
    if as_json:
        print(json.dumps([_told(key) for key in known], indent=1))
        return 0
    for key in known:
        print(f"{key.id}  {key.name:20}  {_state(key)}{_limits(key)}")
    if not known:
        print("proxybox: there are no keys (proxybox serve keys add NAME)", file=sys.stderr)
    return 0


def revoke_key(*, name: str, config: Path | None, data: str | None, keys: str | None) -> int:
    """Revokes a key."""
    try:
        key = _keys(config, data, keys).revoke(name)
    except Exception as error:
        return tell_failure(error)
    print(f"{key.id}  {key.name}: revoked")
    return 0


def _keys(config: Path | None, data: str | None, keys: str | None) -> "Keys":
    from proxybox.serve.keys import Keys

    changes = {key: value for key, value in (("data", data), ("keys", keys)) if value is not None}
    return Keys(_config(config, changes).keys_file)


def _told(key: "Key") -> dict[str, Any]:
    return {
        "id": key.id, "name": key.name, "made": key.made, "revoked": key.revoked,
        "policies": None if key.policies is None else list(key.policies), "concurrency": key.concurrency,
    }  # fmt: skip


def _state(key: "Key") -> str:
    if key.revoked is not None:
        return f"revoked {_day(key.revoked)}"
    return f"made {_day(key.made)}"


def _limits(key: "Key") -> str:
    told = []
    if key.policies is not None:
        told.append(f"policies {', '.join(key.policies)}")
    if key.concurrency is not None:
        told.append(f"{key.concurrency} at once")
    return f"  ({'; '.join(told)})" if told else ""


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))

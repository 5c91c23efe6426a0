"""`proxybox verify`: checks whether a record is complete, and who has signed it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxybox.cli.failures import CommandError
from proxybox.cli.run import interrupted, print_failure, signing
from proxybox.controller.record.exactness import as_data
from proxybox.policies import Policy
from proxybox.policies.dumping import to_dict, toml_line
from proxybox.records.record import Record
from proxybox.terminal.harmless import harmless_lines, on_one_line

EXIT_NOT_SO = 1


def verify(record: Path, keys: tuple[str, ...], *, as_json: bool) -> int:
    """Checks a record, and prints its content. Returns the exit status."""
    try:
        body, problems = checked(record, keys)
    except KeyboardInterrupt:
        return interrupted()
    except OSError as error:
        return print_failure(CommandError(f"can't read {error.filename!r}: {error.strerror or error}"))
    if as_json:
        json.dump({**body, "ok": not problems, "problems": problems}, sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(harmless_lines("\n".join([*in_words(body), *problems]) + "\n"))
    return EXIT_NOT_SO if problems else 0


def checked(path: Path, keys: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """Returns the content of a record, and its problems."""
    wanted = {key: signing().public_key_id(key) for key in keys}
    problems: list[str] = []
    with Record(path) as record:
        calls = sum(1 for _ in record.calls())
        result = record.result
        found = signing().signatures_in(record) if record.reader.signatures and result is not None else []
        body: dict[str, Any] = {
            "record": str(path), "guest": record.guest, "recorded": record.recorded, "argv": list(record.argv),
            "calls": calls, "status": None if result is None else str(result.status),
            "exit_code": None if result is None else result.exit_code, "signatures": [],
            "inexact": as_data(record.reader.inexact), "policy": to_dict(record.policy),
        }  # fmt: skip
    if result is None:
        problems.append("the record is not complete: it does not tell how the run ended")
    elif found:
        body["signatures"] = [{"key_id": each.key_id, "valid": each.is_valid} for each in found]
        problems += [f"the signature of key {each.key_id[:16]} is not valid" for each in found if not each.is_valid]
    valid = {each["key_id"] for each in body["signatures"] if each["valid"]}
    problems += [f"it is not signed by {key} (key {ident[:16]})" for key, ident in wanted.items() if ident not in valid]
    return body, problems


def in_words(body: dict[str, Any]) -> list[str]:
    """Returns the content of a record in words, line by line."""
    ended = "" if body["status"] is None else f", {body['status']}, exit status {body['exit_code']}"
    lines = [
        f"{body['record']}: {body['guest']} {' '.join(body['argv'][1:])}",
        f"recorded {body['recorded']}, {body['calls']:,} OS calls{ended}",
    ]
    lines += [f"under {line}" for line in _policy(body["policy"])[:1]]
    lines += [f"  {line}" for line in _policy(body["policy"])[1:]]
    if (inexact := body["inexact"]) is not None:
        lines.append(f"inexact from call {inexact['call']:,} on: {inexact['why']}")
    lines += [f"signed by key {each['key_id'][:16]}" for each in body["signatures"] if each["valid"]]
    if not body["signatures"]:
        lines.append("not signed")
    return [on_one_line(line) for line in lines]


def _policy(body: dict[str, Any]) -> list[str]:
    """Returns a policy in words: its differences from the default one."""
    usual = set(_lines(to_dict(Policy())))
    other = [line for line in _lines(body) if line not in usual]
    return ["the default policy, but for:", *other] if other else ["the default policy"]


def _lines(policy: dict[str, Any]) -> Iterator[str]:
    for section, value in policy.items():
        if isinstance(value, dict):
            yield from (f"{section}.{toml_line(key, inner)}" for key, inner in value.items())
        else:
            yield toml_line(section, value)

"""Bearer keys: what is kept of them, who is let in, and that a revoked one is refused at once."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from proxybox.serve.keys import Keys, KeysError


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "kept" / "keys.json")


def test_a_key_is_known_by_what_it_was_shown_as(keys: Keys) -> None:
    shown = keys.add("moodle", policies=("strict",), concurrency=3)
    found = keys.find(shown)
    assert found is not None
    assert (found.name, found.policies, found.concurrency) == ("moodle", ("strict",), 3)


def test_the_file_does_not_tell_it(keys: Keys) -> None:
    shown = keys.add("moodle")
    kept = keys.path.read_text()
    assert shown not in kept
    assert shown.split("_", 2)[2] not in kept
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("change", [
    lambda key: "", lambda key: key[:-1], lambda key: key + "A", lambda key: key[:-1] + chr(ord(key[-1]) ^ 1),
    lambda key: key.replace("pbx_", "pbx-"), lambda key: key.upper(), lambda key: "pbx_" + "0" * 12 + key[16:],
    lambda key: f" {key}", lambda key: f"{key}\n", lambda key: "\0" + key, lambda key: "pbx_é" + key,
])  # fmt: skip
def test_what_is_not_quite_a_key_is_none(keys: Keys, change) -> None:
    assert keys.find(change(keys.add("moodle"))) is None


def test_a_revoked_key_is_refused_at_once_and_by_others(keys: Keys) -> None:
    shown, other = keys.add("moodle"), Keys(keys.path)
    assert other.find(shown) is not None
    keys.revoke("moodle")
    assert other.find(shown) is None
    assert keys.find(shown) is None
    assert not keys.are_needed


def test_a_name_is_free_again_after_it_was_revoked(keys: Keys) -> None:
    first = keys.add("moodle")
    with pytest.raises(KeysError, match="there is a key of the name 'moodle'"):
        keys.add("moodle")
    keys.revoke("moodle")
    second = keys.add("moodle")
    assert keys.find(first) is None
    assert keys.find(second) is not None


def test_a_key_is_revoked_by_its_id_too(keys: Keys) -> None:
    shown = keys.add("moodle")
    keys.revoke(shown.split("_")[1])
    assert keys.find(shown) is None
    with pytest.raises(KeysError, match="no key 'moodle'"):
        keys.revoke("moodle")


@pytest.mark.parametrize("name", ["", "a b", "../keys", "x" * 65, "-x", "é"])
def test_names_that_are_none(keys: Keys, name: str) -> None:
    with pytest.raises(KeysError, match="want a name"):
        keys.add(name)


def test_a_file_that_others_may_write_to_is_refused(keys: Keys) -> None:
    shown = keys.add("moodle")
    os.chmod(keys.path, 0o666)
    with pytest.raises(KeysError, match="others may write to it"):
        Keys(keys.path).find(shown)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": [{}]}', '{"keys": [{"id": "a", "what": 1}]}', "\xff"])
def test_a_file_that_is_none_lets_nobody_in(keys: Keys, text: str) -> None:
    keys.path.parent.mkdir()
    keys.path.write_bytes(text.encode("latin-1"))
    keys.path.chmod(0o600)
    with pytest.raises(KeysError, match="not a file of keys"):
        keys.find("pbx_000000000000_" + "A" * 43)


def test_many_who_add_at_once_lose_nothing(keys: Keys) -> None:
    threads = [threading.Thread(target=Keys(keys.path).add, args=(f"key{number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(keys.path.read_text())["keys"]) == 20


def test_an_unknown_key_is_compared_as_long_as_a_known_one(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    from proxybox.serve import keys as module

    compared = []
    monkeypatch.setattr(module.hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or False)
    keys.find(keys.add("moodle"))
    keys.find("pbx_000000000000_" + "A" * 43)
    keys.find("nothing like a key")
    assert compared == [(64, 64)] * 3

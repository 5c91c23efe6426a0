"""Bearer keys: what is stored of them, which are accepted, and that a revoked one is refused at once."""

import hashlib
import json
import os
import stat
import threading
import time
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
    key, digest = found
    assert (key.name, key.policies, key.concurrency, key.scope) == ("moodle", ("strict",), 3, "client")
    assert digest == hashlib.sha256(shown.split("_", 2)[2].encode()).hexdigest()


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
    assert keys.were_made


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
    assert compared == [(64, 64)] * 6  # each is compared with the current secret and with the former one


# --- what keys have been ----------------------------------------------------------------------------------------------


def test_no_keys_were_made_where_none_were(keys: Keys) -> None:
    assert not keys.were_made
    assert keys.known() == {}


def test_that_keys_were_made_is_known_for_good(keys: Keys) -> None:
    keys.add("moodle")
    keys.revoke("moodle")
    assert Keys(keys.path).were_made
    keys.path.unlink()
    for each in (keys, Keys(keys.path)):
        with pytest.raises(KeysError, match="is missing, though keys were made"):
            _ = each.were_made
        with pytest.raises(KeysError, match="is missing, though keys were made"):
            each.find("pbx_000000000000_" + "A" * 43)
    keys.add("again")  # this makes the file again
    assert Keys(keys.path).were_made


def test_a_mark_that_leads_nowhere_is_one(keys: Keys) -> None:
    keys.path.parent.mkdir()
    os.symlink("nothing", f"{keys.path}.made")
    keys.add("moodle")
    keys.path.unlink()
    with pytest.raises(KeysError, match="is missing"):
        _ = Keys(keys.path).were_made


def test_a_file_of_before_says_that_keys_were_made(keys: Keys) -> None:
    """Earlier versions made such files without a mark."""
    keys.path.parent.mkdir()
    keys.path.write_text('{"keys": []}')
    keys.path.chmod(0o600)
    assert keys.were_made
    keys.path.unlink()
    with pytest.raises(KeysError, match="is missing"):
        keys.known()


def test_only_a_key_that_is_made_makes_the_file(keys: Keys) -> None:
    for change in (lambda: keys.revoke("moodle"), lambda: keys.rotate("moodle", grace=0)):
        with pytest.raises(KeysError, match="no such file of keys"):
            change()
        assert not keys.path.parent.exists()


# --- their time -------------------------------------------------------------------------------------------------------


class _Clock:
    """The module's time, which a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr("proxybox.serve.keys.time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    return _Clock(monkeypatch)


def test_a_key_ends_when_it_expires(keys: Keys, clock: _Clock) -> None:
    shown = keys.add("moodle", expires=clock.now + 60)
    clock.now += 59
    assert keys.find(shown) is not None
    clock.now += 1
    assert keys.find(shown) is None
    assert keys.find(keys.add("moodle")) is not None  # its name is free again
    keys.revoke("moodle")
    good = [key.is_good for key in keys.known().values()]
    assert good == [False, False]  # the key that had not expired was revoked


def test_no_key_is_made_that_has_expired(keys: Keys, clock: _Clock) -> None:
    with pytest.raises(KeysError, match="to come"):
        keys.add("moodle", expires=clock.now)


def test_a_rotated_key_has_both_secrets_for_a_time(keys: Keys, clock: _Clock) -> None:
    first = keys.add("moodle", policies=("strict",), scope="operator")
    second, known = keys.rotate("moodle", grace=60)
    found = [keys.find(shown) for shown in (first, second)]
    assert [each and each[0] for each in found] == [known, known]
    assert (known.id, known.policies, known.scope) == (first.split("_")[1], ("strict",), "operator")
    clock.now += 60
    assert keys.find(first) is None
    assert keys.find(second) is not None


def test_a_secret_before_the_former_one_ends_at_once(keys: Keys) -> None:
    first = keys.add("moodle")
    second, _ = keys.rotate("moodle", grace=60)
    third, _ = keys.rotate(first.split("_")[1], grace=60)
    assert [keys.find(shown) is not None for shown in (first, second, third)] == [False, True, True]
    fourth, _ = keys.rotate("moodle", grace=0)
    assert [keys.find(shown) is not None for shown in (third, fourth)] == [False, True]


def test_a_revoked_key_is_revoked_with_both_secrets(keys: Keys) -> None:
    first = keys.add("moodle")
    second, _ = keys.rotate("moodle", grace=60)
    keys.revoke("moodle")
    assert keys.find(first) is keys.find(second) is None
    with pytest.raises(KeysError, match="no key 'moodle'"):
        keys.rotate("moodle", grace=60)


@pytest.mark.parametrize("entry", [
    {"scope": "everything"}, {"more": 1}, {"digest": "é" * 64}, {"digest": None}, {"revoked": "soon"}, {"former": "x"},
    {"expires": []}, {"former_expires": None},
])  # fmt: skip
def test_what_is_not_known_of_a_key_lets_nobody_in(keys: Keys, entry: dict[str, object]) -> None:
    """A later version may have written it: its meaning could only be guessed."""
    shown = keys.add("moodle")
    seen = json.loads(keys.path.read_text())
    seen["keys"][0] |= entry
    keys.path.write_text(json.dumps(seen))
    with pytest.raises(KeysError, match="not a file of keys"):
        keys.find(shown)

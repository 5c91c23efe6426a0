"""Signatures of records: made, checked, and forged."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

import proxybox
from proxybox import PolicyError, RecordError
from proxybox.controller.record.format import FrameKind
from proxybox.records.signing import public_key_id, sign, signatures_of, statement_of
from tests.recordings.keys import made
from tests.recordings.rewriting import changed, frames_of, written


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("taken") / "run.pbx"
    assert proxybox.run("print(6 * 7)", record=path).ok
    return path.read_bytes()


@pytest.fixture
def record(taken: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "run.pbx"
    path.write_bytes(taken)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return made(tmp_path / "key")


def test_a_signature_tells_what_was_run_and_how_it_ended(record: Path, key: Path) -> None:
    given = sign(record, key)
    (found,) = signatures_of(record)
    assert found == given
    assert found.is_valid
    assert found.key_id == public_key_id(key) == public_key_id(key.with_suffix(".pub"))
    seen = found.statement["predicate"]
    assert (seen["result"]["status"], seen["result"]["exit_code"]) == ("ok", 0)
    assert seen["argv"][-1] == "/box/main.py"
    assert seen["policy"]["limits"]["threads"] == 16
    assert proxybox.replay(record).ok


def test_several_may_sign(record: Path, key: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "other")
    ids = [sign(record, each).key_id for each in (key, other, key)]
    assert [each.key_id for each in signatures_of(record)] == ids
    assert all(each.is_valid for each in signatures_of(record))


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed here")
@pytest.mark.parametrize("command", [("-t", "ed25519"), ("-t", "ed25519", "-m", "PEM")])
def test_keys_of_ssh_keygen(command: tuple[str, ...], record: Path, tmp_path: Path) -> None:
    path = tmp_path / "made"
    done = subprocess.run(["ssh-keygen", "-q", *command, "-N", "", "-f", path], capture_output=True, text=True)
    if "No user exists" in done.stderr:
        pytest.skip("ssh-keygen works for users that have a name alone, and this one has none")
    done.check_returncode()
    assert sign(record, path).key_id == public_key_id(f"{path}.pub")


def test_keys_of_openssl(record: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.pem"
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))  # fmt: skip
    assert sign(record, path).is_valid


# --- attacks ----------------------------------------------------------------------------------------------------------


def with_envelope(path: Path, change: Any) -> Path:
    """Changes the envelope of each signature, in a record with a valid hash chain."""

    def changing(data: bytes) -> bytes:
        envelope = json.loads(data)
        change(envelope)
        return json.dumps(envelope).encode()

    return changed(path, FrameKind.SIGNATURE, changing)


def test_a_signature_is_of_no_other_record(record: Path, key: Path, tmp_path: Path) -> None:
    sign(record, key)
    other = tmp_path / "other.pbx"
    assert proxybox.run("print(7 * 7)", record=other).ok
    moved = [(each.kind, each.data) for each in frames_of(record) if each.kind == FrameKind.SIGNATURE]
    written(other, [*((each.kind, each.data) for each in frames_of(other)), *moved])
    assert [each.is_valid for each in signatures_of(other)] == [False]


@pytest.mark.parametrize("kind", [FrameKind.START, FrameKind.EVENTS, FrameKind.END, FrameKind.CONTENT])
def test_a_record_that_was_changed_and_chained_anew_is_not_signed(kind: FrameKind, record: Path, key: Path) -> None:
    sign(record, key)
    changes = {
        FrameKind.EVENTS: lambda data: b"\x0d" + bytes(8) + data,
        FrameKind.CONTENT: lambda data: data.replace(b"4", b"5"),
    }
    changed(record, kind, changes.get(kind, lambda data: data.replace(b'"', b' "', 1)))
    assert [each.is_valid for each in signatures_of(record)] == [False]


def test_a_statement_that_was_changed_is_not_signed(record: Path, key: Path) -> None:
    sign(record, key)

    def change(envelope: dict[str, Any]) -> None:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        statement["predicate"]["result"]["status"] = "time_limit"
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    with_envelope(record, change)
    assert [each.is_valid for each in signatures_of(record)] == [False]


def test_the_name_of_a_key_is_not_believed(record: Path, key: Path, tmp_path: Path) -> None:
    """The id is that of the key which checks the signature, whatever the envelope says."""
    mine = made(tmp_path / "mine")
    sign(record, mine)
    with_envelope(record, lambda envelope: envelope["signatures"][0].update(keyid=public_key_id(key)))
    assert [each.key_id for each in signatures_of(record)] == [public_key_id(mine)]
    raw = json.loads(frames_of(record)[-1].data)["key"]
    public = serialization.load_ssh_public_key(key.with_suffix(".pub").read_bytes())
    other = base64.b64encode(public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)).decode()
    assert raw != other
    with_envelope(record, lambda envelope: envelope.update(key=other))
    assert [(each.key_id, each.is_valid) for each in signatures_of(record)] == [(public_key_id(key), False)]


@pytest.mark.parametrize(
    "change",
    [
        {"payload": 3}, {"payload": "!"}, {"payload": ""}, {"key": "AAAA"}, {"signatures": []}, {"signatures": {}},
        {"signatures": [{"sig": None}]}, {"payload": base64.b64encode(b"[" * 20_000).decode()},
        {"payload": base64.b64encode(b'{"subject": 1}').decode()},
    ],
)  # fmt: skip
def test_an_envelope_that_makes_no_sense_is_refused(change: dict[str, Any], record: Path, key: Path) -> None:
    sign(record, key)
    with_envelope(record, lambda envelope: envelope.update(change))
    with pytest.raises(RecordError, match="makes no sense"):
        signatures_of(record)


def test_a_record_that_is_not_complete_is_not_signed(record: Path, key: Path) -> None:
    written(record, [(each.kind, each.data) for each in frames_of(record)[:-1]])
    for action in (lambda: sign(record, key), lambda: statement_of(record), lambda: signatures_of(record)):
        with pytest.raises(RecordError, match="not complete"):
            action()
    record.write_bytes(record.read_bytes()[:-3])
    with pytest.raises(RecordError):
        sign(record, key)


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_key_is_refused(content: bytes, record: Path, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    for action in (lambda: sign(record, path), lambda: public_key_id(path)):
        with pytest.raises(PolicyError, match="Ed25519"):
            action()


def test_keys_of_another_kind_or_with_a_passphrase_are_refused(record: Path, tmp_path: Path) -> None:
    rsa = made(tmp_path / "rsa", generate_private_key(65537, 2048))
    locked = tmp_path / "locked"
    locked.write_bytes(Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    ))  # fmt: skip
    for path in (rsa, locked):
        with pytest.raises(PolicyError, match="Ed25519"):
            sign(record, path)

"""Signatures of records: who confirms a run, and which facts of it.

The signed text is an in-toto Statement (https://in-toto.io/Statement/v1). Its subject is the record before the
signature, by the chain of its frames. Its predicate has the interpreter, the policy, the arguments, the number of calls
and the result. The record stores it as a DSSE envelope (https://github.com/secure-systems-lab/dsse), signed by Ed25519
(RFC 8032).

A signature proves only that the owner of its key has seen this record. It does not prove that the run took place: the
owner of a key can sign a made-up record.
"""

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from proxybox import argumentchecks
from proxybox.controller.errors import RecordError
from proxybox.controller.record.format import FrameKind, appended
from proxybox.policies import PolicyError
from proxybox.records.record import Record

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
except ImportError as error:
    raise ImportError("signatures of records need the extra sign: pip install 'proxybox[sign]'") from error

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "urn:proxybox:run:v1"
PAYLOAD: Final = "application/vnd.in-toto+json"


@attrs.frozen
class Signature:
    """A signature of a record.

    key_id: SHA-256 of the key, in hexadecimal digits. is_valid: whether this key has signed the statement, and the
    statement is about this record. statement: the signed statement, also if the signature is not valid.
    """

    key_id: str
    is_valid: bool
    statement: Mapping[str, Any]


def sign(path: str | os.PathLike[str], key: str | os.PathLike[str], digest: str | None = None) -> Signature:
    """Adds a signature to a record.

    key: a file with an Ed25519 private key, as ssh-keygen(1) or openssl-genpkey(1) writes it, without a passphrase.
    digest: `Result.record_digest` of the run, to refuse another record that has replaced the run's own.

    Raises RecordError for a record that is not complete or another one, and PolicyError for a file that is no such key.
    """
    private = _private(key)
    statement = statement_of(path)
    chain = statement["subject"][0]["digest"]["blake2b256-chain"]
    if digest is not None and digest != chain:
        raise RecordError("the record is another one than the run has left: it is not signed")
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    key_id = _id_of(private.public_key())
    signature = private.sign(_encoded(payload))
    envelope = {
        "payloadType": PAYLOAD,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
        "key": base64.b64encode(_raw(private.public_key())).decode(),
    }
    appended(path, FrameKind.SIGNATURE, json.dumps(envelope).encode(), bytes.fromhex(chain))
    return Signature(key_id, True, statement)


def signatures_of(path: str | os.PathLike[str]) -> list[Signature]:
    """Returns the signatures of a record, and checks each. Raises RecordError for a record that was changed."""
    with Record(path) as record:
        return signatures_in(record)


def signatures_in(record: Record) -> list[Signature]:
    """Returns the same for an open record, and reads it to its end."""
    for _ in record.calls():
        pass
    if record.reader.run is None:
        raise RecordError("the record is not complete: it does not tell how the run ended")
    return [_checked(chain.hex(), envelope) for chain, envelope in record.reader.signatures]


def statement_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the statement to sign for a record. Raises RecordError if it is incomplete or was changed."""
    with Record(path) as record:
        count = sum(1 for _ in record.calls())
        run, start, result = record.reader.run, record.reader.start, record.result
        if run is None or result is None:
            raise RecordError("the record is not complete: it does not tell how the run ended")
        return {
            "_type": STATEMENT,
            "subject": [{"name": Path(record.path).name, "digest": {"blake2b256-chain": record.reader.chain.hex()}}],
            "predicateType": PREDICATE,
            "predicate": {
                "recorded": record.recorded,
                "proxybox": str(start.get("proxybox")),
                "guest": start.get("guest"),
                "argv": list(record.argv),
                "policy": start.get("policy"),
                "layers": dict(run.layers),
                "calls": count,
                "result": {
                    "status": str(result.status), "exit_code": result.exit_code, "signal": result.signal,
                    "why": result.why, "truncated": result.truncated, "denials": sum(result.denials.values()),
                    "stdout": {"sha256": hashlib.sha256(result.stdout_bytes).hexdigest()},
                    "stderr": {"sha256": hashlib.sha256(result.stderr_bytes).hexdigest()},
                },
            },
        }  # fmt: skip


def _checked(chain: str, envelope: Mapping[str, Any]) -> Signature:
    """Checks one signature. chain: of the record before it."""
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        raw = base64.b64decode(envelope["key"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        statement = json.loads(payload)
        public = Ed25519PublicKey.from_public_bytes(raw)
        said = statement["subject"][0]["digest"]["blake2b256-chain"]
        kinds = statement["_type"], statement["predicateType"], envelope["payloadType"]
        is_about_this = said == chain and kinds == (STATEMENT, PREDICATE, PAYLOAD)
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error, RecursionError) as error:
        raise RecordError("a signature of the record makes no sense") from error
    try:
        public.verify(signature, _encoded(payload))
    except InvalidSignature:
        return Signature(_id_of(public), False, statement)
    return Signature(_id_of(public), is_about_this, statement)


def public_key_id(path: str | os.PathLike[str]) -> str:
    """Returns the id of a public key in a file (or of a private key's public one). Raises PolicyError or OSError."""
    data = Path(argumentchecks.path("key", path)).read_bytes()
    for load in (serialization.load_ssh_public_key, serialization.load_pem_public_key):
        try:
            key = load(data)
        except (ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(key, Ed25519PublicKey):
            return _id_of(key)
    return _id_of(_private(path).public_key())


def _private(path: str | os.PathLike[str]) -> Ed25519PrivateKey:
    data = Path(argumentchecks.path("key", path)).read_bytes()
    for load in (serialization.load_ssh_private_key, serialization.load_pem_private_key):
        try:
            key = load(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a passphrase
            continue
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise PolicyError(
        f"key: want an Ed25519 key without a passphrase, which {os.fspath(path)!r} is not: "
        "ssh-keygen -t ed25519 -N '' -f KEY makes one"
    )


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _id_of(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(_raw(key)).hexdigest()


def _encoded(payload: bytes) -> bytes:
    """Returns the bytes to sign (DSSE's pre-authentication encoding)."""
    kind = PAYLOAD.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)

"""Keys that sign records."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PRIVATE = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
PUBLIC = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH


def made(path: Path, key: Any = None) -> Path:
    """Writes a new key pair, as ssh-keygen does."""
    key = Ed25519PrivateKey.generate() if key is None else key
    path.write_bytes(key.private_bytes(*PRIVATE))
    path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(*PUBLIC))
    return path

"""Who asks the service for something."""

import secrets
from typing import Final

import attrs

from proxybox.serve.keys import Key


@attrs.frozen(kw_only=True)
class Caller:
    """Who asks. key: the id of the key; empty without one. policies: those that it may name; None for all."""

    key: str = ""
    name: str = "anonymous"
    policies: tuple[str, ...] | None = None
    concurrency: int | None = None

    @classmethod
    def of(cls, key: Key) -> "Caller":
        """Returns the caller that a key stands for."""
        return cls(key=key.id, name=key.name, policies=key.policies, concurrency=key.concurrency)


#: Who asks when no key is needed, and the service itself.
ANONYMOUS: Final = Caller()
ITSELF: Final = Caller(key="-", name="proxybox")


def new_id() -> str:
    """Returns an id that nobody can guess."""
    return secrets.token_urlsafe(16)

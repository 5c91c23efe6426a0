"""The callers of the service."""

import secrets
from typing import Final

import attrs

from proxybox.serve.keys import Key


@attrs.frozen(kw_only=True)
class Caller:
    """Who asks. key: the id of the key; empty without one. policies: those that it may name; None for all.

    digest: of the secret that was presented, which can end before the key does. scope: which paths it may use.
    """

    key: str = ""
    name: str = "anonymous"
    policies: tuple[str, ...] | None = None
    concurrency: int | None = None
    scope: str = "client"
    digest: str = attrs.field(default="", repr=False)

    @classmethod
    def of(cls, key: Key, digest: str) -> "Caller":
        """Returns the caller that a key stands for. digest: of the secret that was presented."""
        return cls(
            key=key.id, name=key.name, policies=key.policies, concurrency=key.concurrency, scope=key.scope,
            digest=digest,
        )  # fmt: skip


#: Who asks when no key is needed, and the service itself.
ANONYMOUS: Final = Caller()
ITSELF: Final = Caller(key="-", name="proxybox")


def new_id() -> str:
    """Returns an id that nobody can guess."""
    return secrets.token_urlsafe(16)

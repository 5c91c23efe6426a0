"""The callers of the service."""

import secrets
from typing import Final

import attrs

from proxybox.serve.keys import Key


@attrs.frozen(kw_only=True)
class Caller:
    """A user of the service. key: the id of the key; empty without one. policies: those that it may name; None for all.

    digest: of the secret that was presented, which can expire before the key. scope: which paths it may use.
    """

    key: str = ""
    name: str = "anonymous"
    policies: tuple[str, ...] | None = None
    concurrency: int | None = None
    scope: str = "client"
    digest: str = attrs.field(default="", repr=False)

    @classmethod
    def of(cls, key: Key, digest: str) -> "Caller":
        """Returns the caller of a key. digest: of the secret that was presented."""
        return cls(
            key=key.id, name=key.name, policies=key.policies, concurrency=key.concurrency, scope=key.scope,
            digest=digest,
        )  # fmt: skip


#: The caller without a key, where none is needed, and the service itself.
ANONYMOUS: Final = Caller()
ITSELF: Final = Caller(key="-", name="proxybox")


def new_id() -> str:
    """Returns an id that cannot be guessed."""
    return secrets.token_urlsafe(16)

"""Pictures of pixels that a program displays: they are checked by the first bytes of the file."""

import base64
import binascii
from typing import Any, Final

_SIGNATURES: Final = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}
#: The types of pictures.
KINDS: Final = tuple(_SIGNATURES)


class NoPicture(ValueError):
    """The displayed data is no picture of its declared type; the text says why."""


def picture(kind: str, value: Any) -> str:
    """Returns a picture in base64. kind: one of `KINDS`. value: bytes, or base64. Raises NoPicture."""
    data = value
    if isinstance(value, str):
        try:
            data = base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            raise NoPicture("no base64") from None
    if not isinstance(data, bytes) or not data.startswith(_SIGNATURES[kind]):
        raise NoPicture("no such picture")
    return base64.b64encode(data).decode()

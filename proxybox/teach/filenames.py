"""Names of files and folders that other systems read, too."""

import re
from typing import Final

#: Names that are devices on Windows, whatever they end in: nobody could unpack such a file there.
#: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[\d¹²³])\s*(?:\.|\Z)", re.IGNORECASE)


def no_device(name: str) -> str:
    """Returns a name that Windows does not take for that of a device."""
    return f"_{name}" if is_device(name) else name


def is_device(name: str) -> bool:
    """Whether Windows takes a name, of a file or of a folder, for that of a device."""
    return _DEVICES.match(name) is not None

"""Names of files and folders that are also valid on other systems."""

import re
from typing import Final

#: Names of devices on Windows, whatever their suffix: nobody could unpack such a file there.
#: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[\d¹²³])\s*(?:\.|\Z)", re.IGNORECASE)


def no_device(name: str) -> str:
    """Returns the name, changed if it is that of a device on Windows."""
    return f"_{name}" if is_device(name) else name


def is_device(name: str) -> bool:
    """Whether the name of a file or folder is that of a device on Windows."""
    return _DEVICES.match(name) is not None

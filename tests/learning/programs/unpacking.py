"""Unpacks an archive into a folder."""

import sys
import zipfile
from pathlib import Path

place = Path(sys.argv[1])
with zipfile.ZipFile(place / "parcel.zip") as parcel:
    parcel.extractall(place / "unpacked")
print(sorted(str(path.relative_to(place)) for path in (place / "unpacked").rglob("*.txt")))
assert (place / "unpacked" / "sub" / "b.txt").read_text() == "two"

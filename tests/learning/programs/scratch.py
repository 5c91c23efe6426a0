"""Uses temporary files, in the usual place and in one of its own."""

import os
import sys
import tempfile

with tempfile.TemporaryFile() as file:
    file.write(b"one")
    file.seek(0)
    assert file.read() == b"one"
with tempfile.TemporaryDirectory(dir=os.path.join(sys.argv[1], "work")) as folder:
    path = os.path.join(folder, "two")
    with open(path, "w") as file:
        file.write("two")
    print(sorted(os.listdir(folder)))

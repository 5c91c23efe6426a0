"""Programs whose failure a box explains, with the explanation: each front has a test that shows this text."""

from typing import Final

NO_NETWORK: Final = "this box has no network: work with what is in it, or ask for the data as files"

#: By the need of a program: the program, and the text, or the part of the text that no policy changes.
PROGRAMS: Final = {
    "a connection": ("import socket\nsocket.create_connection(('10.0.0.1', 80))", NO_NETWORK),
    "a page": ("import urllib.request\nurllib.request.urlopen('http://example.com')", NO_NETWORK),
    "a program": (
        "import subprocess\nsubprocess.run(['ls'])",
        "no other program can be started in this box, neither a shell nor a subprocess: do it in Python",
    ),
    "a package": (
        "import nowhere.here",
        "nowhere is not part of this box, and no program can install it: use the standard library, or write it "
        "yourself",
    ),
    "a hidden file": (
        "open('.env')",
        "there is no .env in this box: names that begin with a dot are hidden in folders of the host",
    ),
    "a file of the host": ("open('/home/me/data.csv')", "/home/me/data.csv is not part of this box; writable: "),
    "to write anywhere": ("open('/etc/x', 'w')", "/etc is not part of this box; writable: "),
    "too much memory": ("x = []\nwhile True: x.append(bytearray(1 << 24))", "B was reached: hold less at a time"),
}

"""A host of the tests' own for programs to be learned: a home folder with secrets, data, and a folder for programs."""

import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

PROGRAMS = Path(__file__).parent / "programs"
#: The text of every secret of the host: no box may reveal it.
SECRET = "-----TOPSECRET-7d1f-----"


@attrs.frozen
class Place:
    """A host of a test. root: the folder of all its files."""

    root: Path

    @property
    def home(self) -> Path:
        """The home folder of the user who learns."""
        return self.root / "home"

    @property
    def data(self) -> Path:
        """The folder of the programs' data."""
        return self.root / "data"

    def script(self, text: str, name: str = "script.py") -> Path:
        """Writes a program into the folder for programs, and returns its path."""
        path = self.root / "program" / name
        path.write_text(text)
        return path

    def copied(self, name: str) -> Path:
        """Copies one of the programs beside this file there, and returns its path."""
        return Path(shutil.copy(PROGRAMS / name, self.root / "program" / name))

    def environment(self) -> dict[str, str]:
        """Returns the environment of commands."""
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        return {**kept, "HOME": str(self.home), "API_TOKEN": SECRET}

    def proxybox(self, *words: Any, prefix: Sequence[str] = (), **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command with empty standard input. prefix: words in front of it."""
        options = {"input": "", **options}
        return subprocess.run(
            [*prefix, sys.executable, "-m", "proxybox.cli", *map(str, words)],
            capture_output=True, text=True, check=False, timeout=120, env=self.environment(), **options,
        )  # fmt: skip

    def snapshot(self) -> Mapping[str, bytes | None]:
        """Returns the contents of all files on this host, by path; None for a folder."""
        return {
            str(path.relative_to(self.root)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.root.rglob("*"))
        }


def make_place(root: Path) -> Place:
    """Makes a host with all that the programs beside this file need, and with secrets."""
    place = Place(root)
    for folder in ("texts", "out", "db", "work", "unpacked"):
        (place.data / folder).mkdir(parents=True)
    (root / "program").mkdir()
    (place.home / ".ssh").mkdir(parents=True)
    (place.home / ".config" / "app").mkdir(parents=True)
    (place.home / ".ssh" / "id_rsa").write_text(SECRET)
    (place.home / "diary.txt").write_text(SECRET)
    (place.home / ".config" / "app" / "settings.json").write_text('{"colour": "red"}')
    (place.data / "private.txt").write_text(SECRET)
    (place.data / "sales.csv").write_text("name,amount\ntea,40\ncake,2\n")
    (place.data / "texts" / "a.txt").write_text("one two")
    (place.data / "texts" / "b.txt").write_text("three four five")
    with sqlite3.connect(place.data / "db" / "shop.db") as shop:
        shop.execute("create table items (name, price)")
        shop.execute("insert into items values ('cake', 5)")
    shop.close()
    with zipfile.ZipFile(place.data / "parcel.zip", "w") as parcel:
        parcel.writestr("a.txt", "one")
        parcel.writestr("sub/b.txt", "two")
    return place

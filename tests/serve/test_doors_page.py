"""The commands of docs/serve-doors.md, with a real service."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from proxybox.serve.keys import Keys
from tests.serve.conftest import serving

PAGE = Path(__file__).parents[2] / "docs" / "serve-doors.md"
#: Text that differs between runs: versions, ids and durations.
VARIES = re.compile(r'"[A-Za-z0-9_-]{16,}"|\d+(\.\d+)*')


def commands() -> list[tuple[str, str]]:
    """Returns each command of the page, with the output that is shown below it."""
    text = "\n".join(line[4:] for line in PAGE.read_text().splitlines() if line.startswith("    "))
    blocks = re.findall(r"^\$ (.+)\n((?:[\[{\"s].*\n)?)", text + "\n", re.M)
    return [(command, shown.strip()) for command, shown in blocks]


@pytest.mark.full
@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_the_commands_of_the_page(tmp_path: Path) -> None:
    key = Keys(tmp_path / "data" / "keys.json").add("key")
    found = commands()
    assert len(found) == 6
    with serving(tmp_path, "workers = 1\nslots = 1\n[policies.default]\nextends = 'default'") as server:
        for command, shown in found:
            if server.url.startswith("unix:"):
                command = command.replace("curl ", f"curl --unix-socket {server.url[5:]} ")
            done = subprocess.run(
                ["bash", "-c", command.replace("127.0.0.1:8000", "localhost")], capture_output=True, text=True,
                env={**os.environ, "KEY": key},
            )  # fmt: skip
            assert VARIES.sub("#", done.stdout.strip()) == VARIES.sub("#", shown), command

"""A genuine PyPy that was translated with --sandbox: programs in it, with and without an observer.

These sources do not contain its archive. The tests look for it beside the checkout (../shared/translated), or in the
folder that PROXYBOX_TRANSLATED names.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxybox import Result, Sandbox
from proxybox.controller import find_guest
from proxybox.packages.tarballs import SourceFolder
from tests.guests.conftest import at_its_prompt

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("PROXYBOX_TRANSLATED", HERE.parents[1].parent / "shared/translated"))
ARCHIVE = FOLDER / "pypy36-sandbox.tar.xz"
PROGRAMS: dict[str, dict[str, Any]] = tomllib.loads((HERE / "translated/programs.toml").read_text(encoding="utf-8"))

pytestmark = pytest.mark.skipif(not ARCHIVE.is_file(), reason=f"no genuine translated PyPy ({ARCHIVE})")


@pytest.fixture(scope="session")
def genuine() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="genuine-"))  # not in pytest's own folder, which guests cannot enter
    folder.chmod(0o755)
    SourceFolder(str(folder)).unpack(ARCHIVE)
    yield str(folder / "pypy3-c")
    shutil.rmtree(folder)


def ending(result: Result) -> str:
    words = [
        result.status.value, result.exit_code and f"exit {result.exit_code}",
        result.signal and f"signal {result.signal}", result.why, result.error and result.error.type,
    ]  # fmt: skip
    return ", ".join(filter(None, words))


def shown(result: Result, wanted: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a program, with the keys of programs.toml."""
    names = (os.fsencode(name).decode("utf-8", "backslashreplace") for name in result.files)
    found: dict[str, Any] = {
        "ends": ending(result),
        "changed": sorted(names),
        "denials": sorted({f"{each.call}: {each.reason}" for each in result.denials}),
    }
    if "stdout" in wanted:
        is_long = wanted["stdout"].startswith("SHA-256 ")
        digest = f"SHA-256 {hashlib.sha256(result.stdout_bytes).hexdigest()}"
        found["stdout"] = digest if is_long else result.stdout
    return found


@pytest.mark.sized(20)
@pytest.mark.parametrize("is_observed", [False, True], ids=["alone", "observed"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program(genuine: str, name: str, is_observed: bool) -> None:
    wanted = PROGRAMS[name]
    policy = dict(wanted.get("policy", {}))
    policy["limits"] = {"wall_time": 200, "cpu_time": 100, **policy.get("limits", {})}  # the machine may be busy
    more: dict[str, Any] = {"audit": lambda call: None} if is_observed else {}
    with Sandbox(guest=genuine, **policy, **more) as box:
        result = box.run(wanted["program"], stdin=wanted.get("stdin"), files=wanted.get("files"))
    expected = {"ends": "ok", "changed": [], "denials": [], **wanted}
    found = shown(result, wanted)
    assert found == {key: expected[key] for key in found}, result.stderr


def test_its_prompt(genuine: str) -> None:
    shown = at_its_prompt(genuine, (b">>>> ", b"print(6 * 7)"), (b"42\r\n", b"raise SystemExit(5)"))
    assert b"Python 3.6" in shown


def test_what_it_is(genuine: str) -> None:
    """All its functions are known; the list is the one that it prints itself."""
    guest = find_guest(genuine)
    assert (guest.version, len(guest.functions), guest.warnings) == ((3, 6), 157, ())
    dump = subprocess.run([genuine], env={"RPY_SANDBOX_DUMP": "1"}, capture_output=True, text=True, check=True).stdout
    assert set(guest.functions) == set(dump.partition("Funcs: ")[2].split())

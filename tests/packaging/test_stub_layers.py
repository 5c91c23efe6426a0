"""The stub's files are in layers, and use only lower layers: tools/stublayers.py, which `make check` runs."""

from pathlib import Path

import pytest

from proxybox.guest import build
from tools import stublayers

TREE = {
    "stub_low.h": "int low(void);\nint beside(void);\n",
    "stub_high.h": '#include "stub_low.h"\nint high(void);\n',
    "stub_low.c": '#include "stub_low.h"\nint low(void) { return beside(); }\n',
    "stub_beside.c": '#include "stub_low.h"\nint beside(void) { return 1; }\n',
    "stub.c": '#include "stub_high.h"\nint high(void) { return low(); }\n',
    "README.md": "    high  stub\n    low   beside  low\n",
}


def complaints(folder: Path, **changed: str) -> str:
    """Returns the faults of a stub of three files, some of them changed."""
    files = TREE | {name.replace("__", "."): text for name, text in changed.items()}
    for name, text in files.items():
        (folder / name).write_text(text)
    return "\n".join(stublayers.check(folder))


def test_the_stub() -> None:
    found = stublayers.check(build.SOURCES)
    assert not found, "\n".join(found)


def test_layers_that_hold(tmp_path: Path) -> None:
    assert complaints(tmp_path) == ""


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "stub_low__c",
            '#include "stub_low.h"\nextern int high(void);\nint low(void) { return high(); }\n',
            "stub_low.c (low) uses high of stub.c (high), which stands further up: move what is used to a lower layer",
        ),
        (
            "stub_beside__c",
            '#include "stub_low.h"\nint beside(void) { return low(); }\n',
            "stub_beside.c, stub_low.c lead back to themselves: move a function",
        ),
        ("stub_low__c", "int low(void) { return 1; }\n", "stub_low.c includes the header of no layer: include that of"),
        ("stub_low__c", '#include "stub_low.h"\n#include "stub_high.h"\n', "includes the header of low and high"),
        ("stub_other__h", '#include "stub_low.h"\n', "are no single stack"),
        ("stub_low__h", '#include "stub_high.h"\n', "are no single stack"),
        (
            "README__md",
            "    high  stub\n",
            "README.md shows other layers: put these into it\n\n    high  stub\n    low ",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, file: str, text: str, said: str) -> None:
    assert said in complaints(tmp_path, **{file: text})

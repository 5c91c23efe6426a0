"""controller/header.py and proxybox/guest/wire.h have the same numbers: the stub's C compiler prints them."""

import re
import struct
import subprocess
from pathlib import Path

import pytest

from proxybox.controller import header
from proxybox.guest import build

WIRE = Path(build.SOURCES) / "wire.h"
#: Names that only the C code needs.
OF_THE_STUB = {
    "MAX_PENDING_SIGNALS", "MANY_DESCRIPTORS", "MAIN_STACK", "THREAD_STACK", "MAX_ROWS", "MAX_HIDE",
    "MAX_OUTSIDE_PROC", "MAX_FILTER", "PROXYBOX_WIRE_H",
}  # fmt: skip
#: Structs that have the size of their Python twin. In call_roles, the six roles follow.
STRUCTS = {
    "request": header.REQUEST,
    "reply": header.REPLY,
    "reply_write": header.REPLY_WRITE,
    "role": header.ROLE,
    "launch_report": header.LAUNCH_REPORT,
    "config": header.CONFIG,
    "newborn": header.NEWBORN,
    "settings": header.SETTINGS,
}


def constants() -> dict[str, int]:
    """Returns the constants of header.py, by their names in wire.h."""
    found = {name: value for name, value in vars(header).items() if name.isupper() and isinstance(value, int)}
    return found | {f"FETCH_{each.name}": each.value for each in header.Fetch}


def names_in_c() -> set[str]:
    """Returns every constant that wire.h defines."""
    text = re.sub(r"/\*.*?\*/", "", WIRE.read_text(), flags=re.DOTALL)
    defined = re.findall(r"^#define (\w+)", text, re.MULTILINE)
    enums = [
        name for body in re.findall(r"enum(?: \w+)? \{([^}]*)\}", text) for name in re.findall(r"\b[A-Z]\w+", body)
    ]
    return {*defined, *enums}


def ask(tmp_path: Path, expressions: dict[str, str]) -> dict[str, int]:
    """Returns the values of C expressions, computed with wire.h included."""
    lines = "\n".join(f'printf("{name} %lld\\n", (long long)({code}));' for name, code in expressions.items())
    source, program = tmp_path / "ask.c", tmp_path / "ask"
    source.write_text(f'#include <stdio.h>\n#include <stddef.h>\n#include "{WIRE}"\nint main(void) {{\n{lines}\n}}\n')
    subprocess.run([*build.find_compiler(), "-o", program, source], check=True)
    seen = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in (line.split() for line in seen.splitlines())}


def test_every_number_is_the_same(tmp_path: Path) -> None:
    seen = ask(tmp_path, {name: name for name in constants()})
    assert {name: value & (1 << 64) - 1 for name, value in seen.items()} == {
        name: value & (1 << 64) - 1 for name, value in constants().items()
    }


def test_no_number_is_missing() -> None:
    assert names_in_c() - OF_THE_STUB == set(constants())


@pytest.mark.parametrize("name", STRUCTS)
def test_every_struct_is_the_same(tmp_path: Path, name: str) -> None:
    """The size, and the offset of each field."""
    (body,) = re.findall(rf"struct (?:__attribute__\(\(packed\)\) )?{name} \{{([^}}]*)\}}", WIRE.read_text())
    fields = [
        (word, int(count or 1))
        for line in body.split(";")
        for word, count in re.findall(r"(?:^|[\s,])(\w+)(?:\[(\d+)\])?(?=,|$)", line.strip())
    ]
    offsets = {f"at_{field}": f"offsetof(struct {name}, {field})" for field, _ in fields}
    seen = ask(tmp_path, {"size": f"sizeof(struct {name})", **offsets})
    twin = STRUCTS[name]
    assert seen.pop("size") == twin.size
    codes = re.findall(r"(\d*)([a-zA-Z])", twin.format)
    flat = "".join(code * int(count or 1) for count, code in codes)
    at, wanted = 0, {}
    for field, count in fields:
        wanted[f"at_{field}"] = at
        at += struct.calcsize("<" + flat[:count])
        flat = flat[count:]
    assert (seen, flat) == (wanted, "")


def test_the_rows_of_the_stubs_table(tmp_path: Path) -> None:
    seen = ask(tmp_path, {"size": "sizeof(struct call_roles)", "at": "offsetof(struct call_roles, role)"})
    assert seen == {"size": header.CALL_ROLES.size + 6 * header.ROLE.size, "at": header.CALL_ROLES.size}


def test_no_number_of_the_stubs_own_calls_has_the_bit_of_x32() -> None:
    """systemd's SystemCallArchitectures=native ends a process that makes an x32 call, before our filters are asked."""
    own = {name: value for name, value in constants().items() if header.OWN_CALLS <= value < header.OWN_CALLS_END}
    assert {name for name in own if name.startswith("CALL_")} == {
        "CALL_HELLO", "CALL_FAILED", "CALL_FAULTED", "CALL_SEALED", "CALL_BORN",
    }  # fmt: skip
    assert not any(number & 1 << 30 for number in range(header.OWN_CALLS, header.OWN_CALLS_END))


def test_hostile_code_knows_the_same_numbers() -> None:
    """tests/hostile/guest/raw.py runs in boxes, where it cannot import header.py."""
    source = (Path(__file__).parent.parent / "hostile" / "guest" / "raw.py").read_text()
    lines = re.findall(r"^(?:ROUTE|OWN_CALLS|HELLO|PUT_OFF).* = .*$", source, re.MULTILINE)
    raw: dict[str, int] = {}
    exec("\n".join(lines), raw)
    for name in ("HELLO", "FAILED", "FAULTED", "SEALED", "BORN"):
        assert raw[name] == getattr(header, f"CALL_{name}")
    assert (raw["ROUTE"], raw["OWN_CALLS"], raw["PUT_OFF"]) == (
        header.ROUTE,
        header.OWN_CALLS,
        header.OWN_CALLS_END - 1,
    )

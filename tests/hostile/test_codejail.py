"""A problem's code that attacks the program that runs it, that program's answer, and the reader of the answer.

All of them but the reader are in the box with the code, so it can forge its own result and nothing else.
"""

import json
from collections.abc import Iterator

import pytest

from proxybox.policies import evolve, preset
from proxybox.shims import codejail
from proxybox.shims.codejail import CORRUPTED, MOST_LEFT, SafeExecException, safe_exec, variables_of

LEAVE = "import os\nwith open('/box/left.json', 'wb') as left: left.write({})\nos._exit(0)"


@pytest.fixture(scope="module", autouse=True)
def configured() -> Iterator[None]:
    policy = evolve(preset("codejail"), limits={"wall_time": 10, "cpu_time": 4, "disk": "24M"})
    codejail.configure(policy)
    yield
    codejail.configure()


@pytest.mark.parametrize("claim", [
    "b''", "b'[]'", "b'null'", "b'{'", "b'\\xff'", "b'[' * 100_000", "b'{\"a\":' * 100_000", "b'1' * 100_000",
    "b'{\"a\": ' + b'1' * 5_000 + b'}'", f"b'{{\"a\": \"' + b'x' * {MOST_LEFT} + b'\"}}'",
])  # fmt: skip
def test_a_forged_answer_is_told_from_variables(claim: str) -> None:
    variables = {"x": 1}
    with pytest.raises(SafeExecException) as caught:
        safe_exec(LEAVE.format(claim), variables)
    assert str(caught.value) == CORRUPTED
    assert variables == {"x": 1}


@pytest.mark.parametrize("trick", [
    "os.remove('/box/left.json')",
    "os.remove('/box/left.json'); os.mkdir('/box/left.json')",
    "os.remove('/box/left.json'); os.symlink('/etc/passwd', '/box/left.json')",
    "os.rename('/box/left.json', '/box/elsewhere')",
    "os.truncate('/box/left.json', 20 << 20)",
])  # fmt: skip
def test_the_answer_s_place_is_taken_away(trick: str) -> None:
    with pytest.raises(SafeExecException, match=CORRUPTED):
        safe_exec(f"import os\nos.chmod('..', 0o755)\n{trick}\nos._exit(0)", {})


def test_forged_variables_are_data() -> None:
    """Variables may have any names. They are stored in the caller's dict, like those of an honest run."""
    variables: dict = {}
    safe_exec(LEAVE.format('b\'{"__builtins__": {"open": 1}, "__class__": "x"}\''), variables)
    assert variables == {"__builtins__": {"open": 1}, "__class__": "x"}
    assert type(variables) is dict


@pytest.mark.parametrize("attack", [
    "import __main__; __main__.json_safe = lambda variables: {}['x']",
    "import json; json.dump = json.dumps = None",
    "import sys; sys.excepthook = None; sys.stderr = None; raise KeyError",
    "import sys; sys.modules.clear(); raise KeyError",
    "import gc\nfor each in gc.get_objects():\n    if isinstance(each, dict) and '_left' in each: each.clear()",
    "class Odd(dict):\n    def items(self): raise SystemExit(9)\nodd = Odd(a=1)",
])  # fmt: skip
def test_its_program_is_overwritten(attack: str) -> None:
    with pytest.raises(SafeExecException):
        safe_exec(attack, {})
    variables: dict = {}
    safe_exec("fine = 1", variables)
    assert variables == {"fine": 1}


def test_no_other_run_is_seen() -> None:
    """Each run has its own box: the next one has no names, files or modules of it."""
    leave = "import sys, os\nsys.modules['seen'] = sys\nopen('tmp/seen', 'w').write('x')\nos.environ['SEEN'] = '1'"
    look = "import sys, os\nout = ['seen' in sys.modules, os.listdir('tmp'), 'SEEN' in os.environ]"
    safe_exec(leave, {})
    variables: dict = {}
    safe_exec(look, variables)
    assert variables == {"out": [False, [], False]}


def test_the_files_of_a_run_are_bounded() -> None:
    fill = "n = 0\ntry:\n    while True:\n        open(f'tmp/{n}', 'wb').write(bytes(1 << 20))\n        n += 1\nexcept OSError: pass"
    variables: dict = {}
    with pytest.raises(SafeExecException):  # no room is left for the answer
        safe_exec(f"{fill}\nbig = 'x' * (1 << 20)", variables)
    assert variables == {}


def test_what_is_read_of_an_answer_is_bounded() -> None:
    fits = json.dumps({"a": "x" * (MOST_LEFT - 10)}).encode()
    assert len(fits) <= MOST_LEFT
    assert variables_of(fits) is not None
    assert variables_of(fits + b" " * 10) is None

"""A ready box has run a trivial program in the same way as the real one, which does not notice it."""

from pathlib import Path

import pytest

import proxybox
from proxybox import Pool
from proxybox.controller import find_guest

EACH_GUEST = True
PRINT = "print('h\u00e9')"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_what_a_stream_writes_once_is_the_program_s(encoding: str) -> None:
    """A byte order mark is written to the program's output."""
    variables = {"PYTHONIOENCODING": encoding}
    with Pool(size=1, environment={"variables": variables}) as pool:
        while not pool.ready:
            pass
        assert pool.run(PRINT, check=True).stdout_bytes == (
            proxybox.run(PRINT, environment={"variables": variables}, check=True).stdout_bytes
        )


HOOKS = """
import sys
class Out:
    def __init__(self, out): self.out, self.first = out, True
    def write(self, text):
        if self.first: self.out.write("HEADER ")
        self.first = False
        return self.out.write(text)
    def __getattr__(self, name): return getattr(self.out, name)
seen = []
def trace(frame, event, argument):
    if frame.f_code.co_filename == "/box/main.py": seen.append((event, frame.f_lineno))
    return trace
sys.stdout = Out(sys.stdout)
sys.settrace(trace)
"""


@pytest.mark.sized(2)
@pytest.mark.parametrize("hooks", [HOOKS, "import sys; sys.stdout = None", "import builtins; builtins.print = 0"])
def test_hooks_of_preloaded_modules_see_the_program_alone(hooks: str, tmp_path: Path) -> None:
    """Hooks that break something do not break the box before its program starts."""
    tmp_path.chmod(0o755)
    (tmp_path / "hooks.py").write_text(hooks)
    code = "import os, hooks\nos.write(1, repr(getattr(hooks, 'seen', 0)).encode())\nprint('x')"
    with Pool(size=1, preload=["hooks"], packages=[tmp_path]) as pool, proxybox.Sandbox(
        warm=False, preload=["hooks"], packages=[tmp_path]
    ) as box:  # fmt: skip
        while not pool.ready:
            pass
        ready = pool.run(code)
        assert (ready.status, ready.stdout) == (box.run(code).status, ready.stdout)
        if hooks == HOOKS:
            call = 1 if find_guest().title == "PyPy" else 0
            assert ready.stdout == f"[('call', {call}), ('line', 1), ('line', 2)]HEADER x\n"

"""inspect_ai's sandbox environment: inspect_ai's own check of providers, and cases that this check does not cover."""

import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

pytest.importorskip("inspect_ai", reason="inspect_ai is not installed")
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironmentLimits,
    SandboxUserUnsupportedError,
)
from inspect_ai.util._sandbox import self_check
from inspect_ai.util._sandbox.limits import override_max_exec_output_size
from inspect_ai.util._sandbox.registry import registry_find_sandboxenv

from proxybox.agents.inspect_ai import COMMANDS, BoxConfig, BoxSandboxEnvironment
from proxybox.guest import utilities
from proxybox.policies import PolicyError

#: inspect_ai's checks of a provider that pass. docs/agents.md lists them.
PASSES = {
    "test_cwd_absolute", "test_cwd_relative", "test_cwd_unspecified", "test_exec_as_nonexistent_user",
    "test_exec_input_large", "test_exec_input_shell_special", "test_exec_input_text", "test_exec_large_command",
    "test_exec_permission_error", "test_exec_timeout", "test_read_and_write_file_binary",
    "test_read_and_write_file_including_directory_absolute", "test_read_and_write_file_including_directory_relative",
    "test_read_and_write_file_text", "test_read_and_write_large_file_binary", "test_read_file_is_directory",
    "test_read_file_limit", "test_read_file_nonsense_name", "test_read_file_not_allowed", "test_read_file_not_found",
    "test_read_file_zero_length", "test_write_binary_file_exists", "test_write_binary_file_is_directory",
    "test_write_binary_file_space", "test_write_binary_file_without_permissions", "test_write_binary_file_zero_length",
    "test_write_file_text_utf", "test_write_text_file_exists", "test_write_text_file_is_directory",
    "test_write_text_file_space", "test_write_text_file_without_permissions", "test_write_text_file_zero_length",
}  # fmt: skip
NO_NETWORK = "[box] this box has no network: work with what is in it, or ask for the data as files"
_SHELL = "sh: not run: there are no processes in a box yet"
#: Checks that fail, each with a part of the message: of the environment, or of the check itself.
FAILS = {
    "test_cwd_custom": "env should be in /usr/bin",
    "test_exec_as_user": "adduser: not found: there are no processes in a box yet",
    "test_exec_env_vars": _SHELL,
    "test_exec_input_binary": _SHELL,
    "test_exec_output": _SHELL,
    "test_exec_output_utf": _SHELL,
    "test_exec_returncode": _SHELL,
    "test_exec_stderr": _SHELL,
    "test_exec_stderr_utf": _SHELL,
    "test_exec_timeout_kills_child_processes": _SHELL,
    "test_exec_timeout_kills_process": _SHELL,
    "test_exec_timeout_not_raised_on_fast_signal_death": _SHELL,
}

Check = Callable[[Any], Awaitable[None]]


@pytest.fixture(scope="module")
def sample() -> Iterator[BoxSandboxEnvironment]:
    """One environment for all checks, found as inspect_ai finds it. Each check removes the files that it has made."""
    kind = registry_find_sandboxenv("proxybox")
    assert kind is BoxSandboxEnvironment
    made = anyio.run(kind.sample_init, "task", None, {})
    yield made["default"]
    anyio.run(kind.sample_cleanup, "task", None, made, False)


class Told:
    """An environment that collects what failed commands write to stderr. `words`: all of it."""

    def __init__(self, sample: BoxSandboxEnvironment) -> None:
        self._sample, self.words = sample, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sample, name)

    async def exec(self, *args: Any, **options: Any) -> ExecResult[str]:
        result = await self._sample.exec(*args, **options)
        self.words += result.stderr
        return result


@pytest.mark.sized(9)
@pytest.mark.parametrize("name", sorted(self_check.__all__))
def test_self_check(sample: BoxSandboxEnvironment, name: str) -> None:
    if name not in PASSES | set(FAILS):
        pytest.skip("this check of inspect_ai is newer than the table above")
    seen = Told(sample)
    if name in PASSES:
        anyio.run(getattr(self_check, name), seen)
        return
    with pytest.raises((AssertionError, SandboxUserUnsupportedError)) as failed:
        anyio.run(getattr(self_check, name), seen)
    assert FAILS[name] in f"{failed.value}{seen.words}"


def test_the_table_names_what_inspect_ai_has() -> None:
    assert set(self_check.__all__) >= PASSES | set(FAILS)
    assert not PASSES & set(FAILS)


def test_the_document_has_the_table() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/agents.md").read_text()
    assert {name for name in PASSES | set(FAILS) if f"`{name.removeprefix('test_')}`" not in page} == set()
    assert f"{len(PASSES)} of {len(PASSES) + len(FAILS)}" in page


# --- commands ---------------------------------------------------------------------------------------------------------


def run(sample: BoxSandboxEnvironment, *cmd: str, **options: Any) -> ExecResult[str]:
    async def main() -> ExecResult[str]:
        return await sample.exec(list(cmd), **options)

    return anyio.run(main)


@pytest.mark.parametrize(
    ("cmd", "options", "printed"),
    [
        (["python3", "-c", "import sys; print(sys.argv)", "a", "b c"], {}, "['-c', 'a', 'b c']\n"),
        (["python", "script.py", "x"], {}, "['script.py', 'x'] __main__\n"),
        (["/usr/bin/python3.11", "-m", "script"], {}, "['/box/script.py'] __main__\n"),
        (["python3", "-"], {"input": "print(6 * 7)"}, "42\n"),
        (["python3"], {"input": b"print(6 * 7)"}, "42\n"),
        (["python3", "-u", "-Wignore", "-c", "import sys; print(sys.warnoptions)"], {}, "['ignore']\n"),
        (["bash", "--login", "-c", "python3 -"], {"input": "print(6 * 7)"}, "42\n"),
        (["/bin/sh", "-c", "cat  script.py"], {}, "import sys; print(sys.argv, __name__)\n"),
        (["python3", "-c", "import os; print(os.environ['A'], os.getcwd())"], {"env": {"A": "b"}}, "b /box\n"),
        (["python3", "-c", "import os; print(os.getcwd())"], {"cwd": "sub"}, "/box/sub\n"),
        (["python3", "-c", "import os; print(os.getcwd())"], {"cwd": "/tmp/../tmp"}, "/tmp\n"),
        (["whoami"], {"user": "user"}, "user\n"),
        (["whoami"], {"user": "1000"}, "user\n"),
        (["python3", "-c", "print(input())"], {"input": "caf\u00e9\n"}, "caf\u00e9\n"),
    ],
)
def test_commands(sample: BoxSandboxEnvironment, cmd: list[str], options: dict[str, Any], printed: str) -> None:
    anyio.run(sample.write_file, "script.py", "import sys; print(sys.argv, __name__)\n")
    anyio.run(sample.write_file, "sub/f", "")
    result = run(sample, *cmd, **options)
    assert (result.success, result.returncode, result.stdout, result.stderr) == (True, 0, printed, "")


@pytest.mark.parametrize(
    ("cmd", "status", "said"),
    [
        (["curl", "x"], 127, "curl: not found: there are no processes in a box yet; commands are python3, and rm, "),
        (["/usr/bin/curl"], 127, "/usr/bin/curl: No such file or directory"),
        (["./tool"], 126, "./tool: not run: there are no processes in a box yet; "),
        (["bash", "-c", "ls | wc"], 127, "bash: not run: there are no processes in a box yet; "),
        (["sh", "-c", "rm *"], 127, "sh: not run: "),
        (["sh", "-c", "ls; ls"], 127, "sh: not run: "),
        (["sh", "-c", "A=b ls"], 127, "sh: not run: "),
        (["sh", "-c", "cat $HOME"], 127, "sh: not run: "),
        (["sh", "-c", "sh"], 127, "sh: not run: "),
        (["sh", "-c", "echo hi"], 127, "sh: not run: "),
        (["sh", "script"], 127, "sh: not run: "),
        (["bash"], 127, "bash: not run: "),
        (["python3", "-c", "import sys; print('e', file=sys.stderr); sys.exit(70)"], 70, "e\n"),
        (["python3", "-c", "import os; os.abort()"], 134, ""),
        (["ls", "x" * 200_000], 126, "ls: args[3]: want less than 128 KiB, got 200,000 bytes\n"),
        (["ls", "a\0b"], 126, "ls: args[3]: want text without NUL, got "),
        (["rm", "-q"], 1, "rm: invalid option -- 'q'\n"),
    ],
)
def test_what_is_not_run_says_so(sample: BoxSandboxEnvironment, cmd: list[str], status: int, said: str) -> None:
    anyio.run(sample.write_file, "tool", "#!/bin/sh\n")
    assert run(sample, "chmod", "+x", "tool").success
    result = run(sample, *cmd)
    assert (result.success, result.returncode) == (False, status)
    assert result.stderr.startswith(said)


def test_a_refusal_is_told_in_words_when_a_command_fails(sample: BoxSandboxEnvironment) -> None:
    failed = run(sample, "python3", "-c", "import socket; socket.socket()")
    assert failed.stderr.endswith(f"\n{NO_NETWORK}\n")
    for end in ("", "\\n"):
        code = f"import os, socket\ntry: socket.socket()\nexcept OSError: os.write(2, b'[box] x{end}'); os._exit(1)"
        assert run(sample, "python3", "-c", code).stderr == f"\\[box] x\n{NO_NETWORK}\n"
    caught = run(sample, "python3", "-c", "import os, sys; print(os.system('ls'), file=sys.stderr)")
    assert (caught.success, caught.stderr) == (True, "32512\n")


def test_limits(sample: BoxSandboxEnvironment) -> None:
    with pytest.raises(TimeoutError, match="the time limit of 500 ms was reached"):
        run(sample, "python3", "-c", "while True: pass", timeout=0.5)
    used_up = run(sample, "python3", "-c", "x = []\nwhile True: x.append(bytearray(1 << 20))")
    assert not used_up.success
    assert "[box] the memory limit of 512 MiB was reached: hold less at a time\n" in used_up.stderr

    async def flood() -> None:
        with override_max_exec_output_size(1000):
            await sample.exec(["python3", "-c", "while True: print('x' * 99)"])

    with pytest.raises(OutputLimitExceededError, match="limit of 1,000 bytes was exceeded") as exceeded:
        anyio.run(flood)
    assert exceeded.value.truncated_output == (("x" * 99 + "\n") * 10)


def test_users_folders_and_variables_that_are_not_there(sample: BoxSandboxEnvironment) -> None:
    for user in ("root", "0", "nobody", ""):
        with pytest.raises(SandboxUserUnsupportedError, match="the one user of a box is 'user'"):
            run(sample, "ls", user=user)
    assert run(sample, "ls", cwd="no/where").stderr == "cd: no/where: there is no such folder in the box\n"
    with pytest.raises(PolicyError, match="LD_PRELOAD"):
        run(sample, "ls", env={"LD_PRELOAD": "x"})
    with pytest.raises(ValueError, match="cmd: want a command"):
        run(sample)
    for path in ("/etc/passwd", "/box", "/tmp/"):
        with pytest.raises(PermissionError):
            run(sample, path)


def test_commands_at_the_same_time_see_the_same_files(sample: BoxSandboxEnvironment) -> None:
    done: list[str] = []

    async def one(number: int) -> None:
        code = f"open('/tmp/n{number}', 'w').close()"
        result = await sample.exec(["python3", "-c", code], concurrency=number % 2 == 0)
        done.append(result.stderr)

    async def main() -> str:
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(one, number)
        return (await sample.exec(["ls", "/tmp"])).stdout

    assert [name for name in anyio.run(main).split() if name[:1] == "n"] == [f"n{number}" for number in range(6)]
    assert done == [""] * 6


def test_a_cancelled_command_ends(sample: BoxSandboxEnvironment) -> None:
    async def main() -> bool:
        with anyio.move_on_after(0.3) as scope:
            await sample.exec(["python3", "-c", "while True: pass"])
        return scope.cancelled_caught

    assert anyio.run(main)


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_are_what_programs_see(sample: BoxSandboxEnvironment) -> None:
    anyio.run(sample.write_file, "deep/er/file", "a\r\nb\n")
    assert anyio.run(sample.read_file, "/box/deep/er/file") == "a\r\nb\n"
    assert run(sample, "python3", "-c", "print(open('deep/er/file', 'rb').read())").stdout == "b'a\\r\\nb\\n'\n"
    anyio.run(sample.write_file, "bytes", b"\xff")
    assert anyio.run(sample.read_file, "bytes", False) == b"\xff"
    with pytest.raises(UnicodeDecodeError):
        anyio.run(sample.read_file, "bytes")


def test_a_link_that_lies_there_leads_nowhere_on_the_host(sample: BoxSandboxEnvironment, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for name, target in (("planted", tmp_path / "secret"), ("above", tmp_path)):
        os.symlink(target, Path(sample._folder.box) / name)  # a box cannot make it
    for path in ("planted", "above/secret", f"../..{tmp_path}/secret", f"/proc/self/root{tmp_path}/secret"):
        with pytest.raises(OSError):
            anyio.run(sample.read_file, path)
    for path in ("planted", "above/new"):
        with pytest.raises(OSError):
            anyio.run(sample.write_file, path, "x")
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").read_text() == "secret"


def test_one_sample_sees_nothing_of_another() -> None:
    async def main() -> None:
        made = [await BoxSandboxEnvironment.sample_init("task", None, {}) for _ in range(2)]
        one, other = (each["default"] for each in made)
        for path in ("secret", "/tmp/secret", "/home/user/secret"):
            await one.write_file(path, "x")
        look = "import os; print([n for p in ('/box', '/tmp', '/home/user') for n in os.listdir(p)])"
        assert (await other.exec(["python3", "-c", look])).stdout == "[]\n"
        for each in made:
            await BoxSandboxEnvironment.sample_cleanup("task", None, each, False)
        assert not any(os.path.exists(each["default"]._folder.box) for each in made)

    anyio.run(main)


def test_configurations(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[limits]\nwall_time = 7\ncpu_time = 6\n[output]\nlimit = "2K"\n')
    made = BoxSandboxEnvironment.config_deserialize({"policy": str(tmp_path / "mine.toml"), "guest": "pypy"})
    assert made == BoxConfig(policy=str(tmp_path / "mine.toml"), guest="pypy")
    assert hash(made)
    for config in (made, str(tmp_path / "mine.toml")):
        sample = BoxSandboxEnvironment(config)
        assert sample._folder.policy().limits.wall_time == 7
        with pytest.raises(OutputLimitExceededError, match="limit of 2 KiB"):
            run(sample, "python3", "-c", "print('x' * 5000)")
        anyio.run(sample.close)
    with pytest.raises(PolicyError, match="no_such"):
        BoxSandboxEnvironment("no_such")
    with pytest.raises(ValueError, match="polycy"):
        BoxSandboxEnvironment.config_deserialize({"polycy": "strict"})


def test_the_table_of_commands_is_the_guests() -> None:
    assert tuple(utilities.TABLE) == COMMANDS
    assert SandboxEnvironmentLimits.MAX_READ_FILE_SIZE == 100 << 20


@pytest.mark.filterwarnings("ignore")
def test_a_task_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """inspect_ai's own tools, a scripted model and files of the sample, in a process of its own."""
    program = tmp_path / "task.py"
    program.write_text(TASK)
    monkeypatch.chdir(tmp_path)
    import subprocess

    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-4:] == [
        "success 1.0",
        "'some data\\n'",
        repr(NO_NETWORK),
        "'42'",
    ], done.stdout + done.stderr


TASK = """
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import bash, python

first = "open('n.txt', 'w').write(str(6 * 7)); print(open('data.txt').read())"
outputs = [
    ModelOutput.for_tool_call("mockllm/model", "python", {"code": first}),
    ModelOutput.for_tool_call("mockllm/model", "python", {"code": "import socket; socket.socket()"}),
    ModelOutput.for_tool_call("mockllm/model", "bash", {"command": "cat n.txt"}),
    ModelOutput.from_content("mockllm/model", "42"),
]
for each in outputs:
    each.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
task = Task(
    dataset=[Sample(input="what?", target="42", files={"data.txt": "some data"})],
    solver=[use_tools(python(timeout=5), bash(timeout=5)), generate()],
    scorer=includes(),
    sandbox="proxybox",
)
log = eval(task, model=get_model("mockllm/model", custom_outputs=outputs), display="none", log_dir="logs")[0]
tools = [each.text for each in log.samples[0].messages if each.role == "tool"]
print(log.status, log.results.scores[0].metrics["accuracy"].value)
print(repr(tools[0]), repr(tools[1].strip().splitlines()[-1]), repr(tools[2]), sep="\\n")
"""

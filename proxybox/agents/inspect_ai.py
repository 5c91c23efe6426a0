"""inspect_ai: a sandbox environment named "proxybox", for tasks whose commands are Python.

    Task(dataset, solver=[use_tools(python()), generate()], sandbox="proxybox")
    Task(..., sandbox=("proxybox", "policy.toml"))

inspect_ai (https://inspect.aisi.org.uk/sandboxing.html) finds it by an entry point. Each sample has files of its own,
which all its commands share. Each command has a box of its own, so that a command that hangs, or has broken its
interpreter, does not affect others. There are no processes in a box yet, and so no shell: commands are `python3` and
those of proxybox/guest/utilities.py, which are Python programs that run in the box.
"""

import errno
import functools
import os
import posixpath
import re
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal, overload

try:
    from inspect_ai.util import (
        ExecResult,
        OutputLimitExceededError,
        SandboxEnvironment,
        SandboxEnvironmentConfigType,
        SandboxEnvironmentLimits,
        SandboxUserUnsupportedError,
        sandboxenv,
    )
    from inspect_ai.util import concurrency as at_most
except ModuleNotFoundError as error:
    raise ImportError("the sandbox environment needs inspect_ai: pip install inspect-ai") from error
import anyio.to_thread
from pydantic import BaseModel, ConfigDict

from proxybox import AsyncSandbox, AsyncSession, Policy, PolicyError, Program, Result, SandboxStartError, Status
from proxybox.agents.interface import (
    BOX,
    SampleFolder,
    arguments,
    guest_folder,
    marked,
    policy_of_run,
    remarks,
    safe,
    spoken_size,
)
from proxybox.policies import as_policy, evolve

#: The limits of a sample whose task names no policy: enough time for evaluations, and space for their files.
DEFAULTS: Final = {"wall_time": "3m", "cpu_time": "3m", "disk": "256M"}
#: The small commands, from a table in proxybox/guest/utilities.py.
COMMANDS: Final = ("rm", "mkdir", "rmdir", "cat", "ls", "touch", "chmod", "printf", "wc", "sleep", "whoami")
#: Exit statuses of a shell for a command that it does not find or cannot run.
NOT_FOUND, CANNOT_RUN = 127, 126
_PYTHON: Final = re.compile(r"(?:python|pypy)(?:3(?:\.\d+)?)?")
_FOLDERS: Final = ("/bin", "/usr/bin", "/usr/local/bin")
#: A line that is only words for a shell.
_PLAIN_LINE: Final = re.compile(r"[\w./:,@%+=-]+(?: +[\w./:,@%+=-]+)*")
_SHELLS: Final = ("sh", "bash", "dash", "ash")


class BoxConfig(BaseModel):
    """A task's settings of its boxes. policy: a preset or a TOML file. guest, packages: as for `proxybox.Sandbox`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str | None = None
    guest: str | None = None
    packages: tuple[str, ...] = ()


@sandboxenv(name="proxybox")
class BoxSandboxEnvironment(SandboxEnvironment):
    """The files of one sample, and boxes in which commands use them.

    config: a BoxConfig; the name of a policy; or None. Raises PolicyError.
    """

    def __init__(self, config: SandboxEnvironmentConfigType | None = None) -> None:
        super().__init__()
        settings = config if isinstance(config, BoxConfig) else BoxConfig(policy=config)
        policy = as_policy(settings.policy)
        if settings.policy is None:
            policy = evolve(policy, limits=DEFAULTS, output={"limit": None})
        self._options: dict[str, Any] = {"guest": settings.guest, "packages": settings.packages}
        self._folder = SampleFolder(policy)

    @classmethod
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """Makes the environment of one sample."""
        return {"default": cls(config)}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        """Removes the files of a sample."""
        for environment in environments.values():
            await environment.as_type(cls).close()

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        """Returns the configuration from a table in a task."""
        return BoxConfig(**config)

    async def close(self) -> None:
        """Removes the files. No command may run at that time."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._folder.remove)

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,  # noqa: A002 - inspect_ai's name
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Runs `python3` or a small command in a box with the sample's files.

        cwd: /box, or relative to it. user: the box's own user, by name or number. timeout: seconds, in place of the
        policy's limits.wall_time. A command that has used its time is not tried again, whatever timeout_retry is: it
        would use it again. An unknown command gives exit status 127 and a message on standard error.

        Raises TimeoutError at a limit of time, OutputLimitExceededError for more than inspect_ai's limit,
        PermissionError for a file that is not executable, SandboxUserUnsupportedError, and ValueError for invalid
        environment variables.
        """
        self._check_user(user)
        words = _words(cmd)
        place = posixpath.normpath(posixpath.join(BOX, cwd or BOX))
        if words is None:
            return await self._not_run(cmd, place)
        try:
            checked = arguments(words)
        except PolicyError as error:
            return _failed(CANNOT_RUN, f"{cmd[0]}: {error}")
        environment = {**({"cwd": place} if cwd else {}), **({"variables": env} if env else {})}
        async with _turn(concurrency), self._sandbox(environment, warm=_can_be_copied(checked)) as box:
            try:
                result = await box.run_program(
                    Program(words=checked, folder=self._folder.box), stdin=input, timeout=timeout
                )
            except SandboxStartError as error:
                if "environment.cwd" not in str(error):
                    raise
                return _failed(1, f"cd: {cwd}: there is no such folder in the box")
        return _as_exec(result, policy_of_run(box.policy, timeout, None, None))

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Writes a file as a program in the box would, and makes the folders above it.

        file: absolute, or relative to /box. Raises OSError, such as PermissionError and IsADirectoryError.
        """
        async with self._session() as session:
            try:
                await session.write_file(file, contents, parents=True)
            except OSError as error:
                raise _named(error, file) from None

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """Reads a file as a program in the box would.

        file: absolute, or relative to /box. Raises OSError, such as FileNotFoundError, PermissionError and
        IsADirectoryError, UnicodeDecodeError, and OutputLimitExceededError for more than inspect_ai's limit.
        """
        limits = SandboxEnvironmentLimits
        async with self._session() as session:
            try:
                content = await session.read_file(file, limits.MAX_READ_FILE_SIZE)
            except OSError as error:
                if error.errno == errno.EFBIG:
                    raise OutputLimitExceededError(limits.MAX_READ_FILE_SIZE_STR, None) from None
                raise _named(error, file) from None
        return content.decode() if text else content

    @asynccontextmanager
    async def _sandbox(
        self, environment: dict[str, Any] | None = None, warm: bool = True
    ) -> AsyncGenerator[AsyncSandbox]:
        """A context with the sandbox of one command.

        environment: the differences from the policy's. With any, guests are not copies, because each would need a
        zygote of its own.
        """
        policy = await anyio.to_thread.run_sync(self._folder.policy)
        most = min(filter(None, (policy.output.limit, SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE)))
        changed = evolve(policy, output={"limit": most, "on_excess": "end"}, environment=environment or {})
        async with AsyncSandbox(changed, warm=False if environment or not warm else None, **self._options) as box:
            yield box

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[AsyncSession]:
        """A context with a session of a box that has the files, whose guest does nothing."""
        async with self._sandbox() as box, await box.session(folder=self._folder.box) as session:
            yield session

    def _check_user(self, user: str | None) -> None:
        own = self._folder.environment
        if user not in (None, own.user, str(own.uid)):
            raise SandboxUserUnsupportedError(f"{user!r}: the one user of a box is {own.user!r} ({own.uid})")

    async def _not_run(self, cmd: list[str], place: str) -> ExecResult[str]:
        """Returns the reason why a command is not run. Raises PermissionError for a file that is not executable."""
        name = cmd[0]
        if _own_name(name) in _SHELLS:
            return _failed(NOT_FOUND, f"{name}: not run: {_NO_SHELL}")
        if "/" in name:
            path = posixpath.join(place, name)
            async with self._session() as session:
                try:
                    found = await session.list_files(path)
                except OSError as error:
                    return _failed(NOT_FOUND, f"{name}: {error.strerror}")
            if len(found) != 1 or found[0].name != posixpath.basename(path) or not found[0].mode & 0o111:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
            return _failed(CANNOT_RUN, f"{name}: not run: {_NO_PROCESSES}; if it is Python: python3 {name}")
        return _failed(NOT_FOUND, f"{name}: not found: {_NO_PROCESSES}")


_NO_PROCESSES: Final = f"there are no processes in a box yet; commands are python3, and {', '.join(COMMANDS)}"
_NO_SHELL: Final = f"{_NO_PROCESSES}, one at a time, without pipes, redirections or variables: do the rest in Python"


@functools.cache
def _utilities() -> str:
    return (Path(guest_folder()) / "utilities.py").read_text(encoding="utf-8")


def _own_name(name: str) -> str | None:
    """Returns the name of a command without its folder; None for a folder that does not contain commands."""
    folder, _, base = name.rpartition("/")
    return base if not folder or folder in _FOLDERS else None


def _words(cmd: list[str]) -> list[str] | None:
    """Returns the interpreter's arguments for a command; None for a command that cannot be run."""
    if not cmd:
        raise ValueError("cmd: want a command, got an empty list")
    name = _own_name(cmd[0]) or ""
    if _PYTHON.fullmatch(name):
        return cmd[1:] or ["-"]
    if name in COMMANDS:
        return ["-c", _utilities(), name, *cmd[1:]]
    line = _plain_line(cmd[1:]) if name in _SHELLS else None
    return None if line is None or _own_name(line[0]) in _SHELLS else _words(line)


def _can_be_copied(words: tuple[str, ...]) -> bool:
    """Returns whether a guest that has already started can run them: they have no options of the interpreter."""
    return words[0] in ("-c", "-m", "-") or not words[0].startswith("-")


def _plain_line(arguments: list[str]) -> list[str] | None:
    """Returns the words of a shell's line that is one command without any feature of the shell; otherwise None."""
    rest = [each for each in arguments if each not in ("-l", "--login")]
    if len(rest) != 2 or rest[0] != "-c" or not _PLAIN_LINE.fullmatch(rest[1]):
        return None
    words = rest[1].split()
    return None if "=" in words[0] else words


@asynccontextmanager
async def _turn(is_wanted: bool) -> AsyncGenerator[None]:
    """A context that begins when the command may run, if the caller wants their number to be bounded."""
    if not is_wanted:
        yield
        return
    async with at_most("proxybox", 2 * (os.cpu_count() or 1)):
        yield


def _named(error: OSError, file: str) -> OSError:
    """Returns the error with the name of the file that the caller has used."""
    number = error.errno or errno.EIO
    return OSError(number, os.strerror(number), file)


def _failed(status: int, text: str) -> ExecResult[str]:
    return ExecResult(success=False, returncode=status, stdout="", stderr=f"{text}\n")


def _as_exec(result: Result, policy: Policy) -> ExecResult[str]:
    """Returns a result as one of inspect_ai; remarks about limits and refusals follow standard error."""
    lines = remarks(result, policy)
    stdout, stderr = (data.decode(errors="replace") for data in (result.stdout_bytes, result.stderr_bytes))
    if result.status is Status.TIME_LIMIT:
        raise TimeoutError("; ".join(lines))
    if result.status is Status.OUTPUT_LIMIT:
        raise OutputLimitExceededError(spoken_size(policy.output.limit or 0), stdout or stderr)
    status = 128 + (result.signal or signal.SIGKILL) if result.exit_code is None else result.exit_code
    if status:
        stderr = safe(stderr)
        end = "\n" if stderr and not stderr.endswith("\n") else ""
        stderr += f"{end}{marked(lines)}\n" if lines else ""
    return ExecResult(success=status == 0, returncode=status, stdout=stdout, stderr=stderr)

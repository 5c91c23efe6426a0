"""The functions of the API: they run a program in a box of its own, or diagnose whether boxes can run on this host.

result = proxybox.run("print(6 * 7)")
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from proxybox import argumentchecks
from proxybox.argumentchecks import Content, Input
from proxybox.controller.audit import Audit
from proxybox.policies import Policy, PolicyError
from proxybox.program import Program
from proxybox.result import Result
from proxybox.sandbox import AsPath, Callback, Code, Variables
from proxybox.sandbox import Sandbox as Sandbox

if TYPE_CHECKING:
    from proxybox.diagnosis import Diagnosis as Diagnosis
    from proxybox.diagnosis import Layer as Layer
    from proxybox.diagnosis import diagnose as diagnose


def run(
    code: Code,
    args: Sequence[str] = (),
    stdin: Input = None,
    files: Content | None = None,
    policy: Policy | str | os.PathLike[str] | None = None,
    timeout: float | str | None = None,
    check: bool = False,
    on_stdout: Callback = None,
    on_stderr: Callback = None,
    env: Variables = None,
    record: str | os.PathLike[str] | None = None,
    **policy_fields: Any,
) -> Result:
    """Runs a program in a box of its own and returns how it ended.

    code: source text (a str), or the path of a script (an os.PathLike). args: the program's arguments. stdin: text,
    bytes, a file object, a function that is called with n and returns at most n bytes, or a Terminal. files: names
    below /box with their content. policy: a Policy, the name of a preset or the path of a TOML file; `policy_fields`
    replace its sections (limits={"memory": "1G"}). timeout: seconds of wall time. check: whether to raise
    ExecutionError when the program does not end well. on_stdout, on_stderr: functions that are called with text as the
    program prints it. env: environment variables besides the policy's. record: a path for a record of the run, from
    which `replay` runs it again.

    Raises PolicyError for arguments or a policy that make no sense, SandboxStartError when no box can be started, and
    OSError for a script that cannot be read.
    """
    try:
        sandbox = Sandbox(policy, **policy_fields)
    except PolicyError as error:
        raise argumentchecks.meant(error, run) from None
    with sandbox as box:
        return box.run(
            code, args, stdin, files, timeout=timeout, check=check, on_stdout=on_stdout, on_stderr=on_stderr,
            env=env, record=record,
        )  # fmt: skip


def run_file(path: str | os.PathLike[str], args: Sequence[str] = (), **options: Any) -> Result:
    """Does what `run` does, for the script at `path`, which may be a str."""
    return run(AsPath(path), args, **options)


def run_program(
    program: Program,
    *,
    stdin: Input = None,
    on_stdout: Callable[[bytes], object] | None = None,
    on_stderr: Callable[[bytes], object] | None = None,
    policy: Policy | None = None,
    guest: str | os.PathLike[str] | None = None,
    guest_library: str | os.PathLike[str] | None = None,
    packages: Sequence[str | os.PathLike[str]] = (),
    audit: Audit | None = None,
    capture: bool = True,
    on_sandbox: Callable[[Sandbox], object] | None = None,
    record: str | os.PathLike[str] | None = None,
    record_limit: int | str | None = None,
    record_redact: Sequence[str] = (),
) -> Result:
    """Runs one `Program` in a box of its own; the command line uses this.

    on_sandbox: called with the sandbox before the program runs in it, so that the caller can use its `interrupt` and
    `close`.
    """
    with Sandbox(
        policy, guest=guest, guest_library=guest_library, packages=packages, audit=audit, record_limit=record_limit,
        record_redact=record_redact,
    ) as box:  # fmt: skip
        if on_sandbox is not None:
            on_sandbox(box)
        return box.run_program(
            program, stdin=stdin, on_stdout=on_stdout, on_stderr=on_stderr, capture=capture, record=record
        )


def __getattr__(name: str) -> Any:
    """Imports the names of diagnosis.py when they are first used, since they are used rarely."""
    if name not in ("Diagnosis", "Layer", "diagnose"):
        raise AttributeError(f"module 'proxybox.api' has no attribute {name!r}")
    from proxybox import diagnosis

    return getattr(diagnosis, name)

"""The service tests its own boxes before it serves: with each policy and language, in the same way as requests.

A program runs; it cannot read a file of the host, use the network or start a program; and limits end an endless loop, a
program that fills the memory, and one that starts processes. The service relies only on protections that it has tested.
"""

import asyncio
import os
import secrets
import tempfile
from collections.abc import Mapping
from typing import Final

import attrs

from proxybox.serve.jobs import ServiceJobs
from proxybox.serve.problems import Refusal
from proxybox.serve.workerjobs import RunJob
from proxybox.serve.workers import WorkerLost


class TrialFailed(Exception):
    """A test has failed. The text says which one, and what happened."""


@attrs.frozen
class Trial:
    """A program and its expected outcome. statuses: the allowed ones. says: the text that it has to print."""

    name: str
    code: str
    statuses: tuple[str, ...] = ("ok",)
    says: str = "fine\n"
    limits: Mapping[str, float] = attrs.field(factory=dict)


_NO_NETWORK: Final = """
import socket
for address in (("127.0.0.1", {port}), ("192.0.2.1", 80)):
    try:
        socket.create_connection(address, 1).close()
    except OSError:
        continue
    print("reached", address)
print("fine")
"""

_NO_EXEC: Final = """
import os, subprocess
for start in (
    lambda: subprocess.run(["/bin/true"]), lambda: os.system("true") and 1 / 0, lambda: os.execv("/bin/true", ["true"]),
):
    try:
        start()
    except (OSError, ZeroDivisionError):
        continue
    print("started a program")
print("fine")
"""

_FORKS: Final = """
import os, threading
made = 0
try:
    for _ in range(1000):
        if os.fork() == 0:
            threading.Event().wait()
        made += 1
except OSError:
    pass
print("fine" if made < 300 else f"{made} processes")
"""


def trials(secret_file: str, port: int) -> tuple[Trial, ...]:
    """Returns all trials. secret_file: a file of the host. port: a port of the host at which a server listens."""
    return (
        Trial("a program runs", "import json\nprint(json.loads('\"fine\"'))"),
        Trial(
            "no file of the host is seen",
            f"import os\ntry:\n    print(open({secret_file!r}).read())\nexcept OSError:\n    pass\nprint('fine')",
        ),
        Trial("no network is reached", _NO_NETWORK.format(port=port)),
        Trial("no program is started", _NO_EXEC),
        Trial(
            "an endless loop ends",
            "while True: pass",
            ("time_limit",),
            "",
            {"limits.cpu_time": 0.2, "limits.wall_time": 2},
        ),
        Trial(
            "the memory is bounded",
            "kept = []\nwhile True: kept.append(bytearray(1 << 24))",
            ("memory_limit", "time_limit"),
            "",
        ),
        Trial("processes are bounded", _FORKS, ("ok", "error", "memory_limit", "time_limit", "denied")),
    )


async def try_out(jobs: ServiceJobs) -> None:
    """Runs all trials. Raises TrialFailed."""
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    with tempfile.NamedTemporaryFile("w", prefix="proxybox-trial-", suffix=".txt") as secret:
        secret.write(secrets.token_hex(16))
        secret.flush()
        os.chmod(secret.name, 0o644)  # the box must protect it, and not the permissions of its user
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            for language in jobs.config.languages:
                for policy in jobs.config.policies:
                    for trial in trials(secret.name, port):
                        await _try(jobs, policy, language, trial)


async def _try(jobs: ServiceJobs, policy: str, language: str, trial: Trial) -> None:
    where = f"{trial.name} (policy {policy}, language {language})"
    limits = jobs.within(policy, trial.limits).get("limits")
    job = RunJob(policy=policy, language=language, code=trial.code, limits=limits)
    try:
        result = await jobs.ask_itself(job)
    except Refusal as error:
        raise TrialFailed(f"{where}: {error}") from None
    except WorkerLost as error:
        raise TrialFailed(f"{where}: {error}") from None
    if result["status"] not in trial.statuses:
        why = result["why"] or result["stderr"][-300:]
        raise TrialFailed(f"{where}: ended with {result['status']}, not with {' or '.join(trial.statuses)}: {why}")
    if trial.says and result["status"] == "ok" and result["stdout"] != trial.says:
        raise TrialFailed(f"{where}: printed {result['stdout'][:200]!r}")

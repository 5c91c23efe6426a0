"""Environment variables of one run or session, in addition to the policy's."""

import inspect
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import proxybox
from proxybox import AsyncClient, AsyncPool, AsyncSandbox, Client, Policy, PolicyError, Pool, Program, Sandbox

CODE = "import os; print(os.environ.get('OWN'), os.environ.get('TOLD'), os.environ['HOME'])"
POLICY = Policy(session={"branches": 2}, environment={"variables": {"TOLD": "policy", "OWN": "policy"}})
ENV = {"OWN": "a = b\u00e9"}
SEEN, PLAIN = "a = b\u00e9 policy /home/user\n", "policy policy /home/user\n"


def in_a_loop(sandbox: type[AsyncSandbox], work: Callable[[AsyncSandbox], Any]) -> Any:
    async def main() -> Any:
        async with sandbox(POLICY) as box:
            return await work(box)

    return anyio.run(main)


async def in_a_session(box: AsyncSandbox) -> str:
    async with await box.session(env=ENV) as session, await session.fork() as copy:
        return (await session.exec(CODE)).stdout + (await copy.exec(CODE)).stdout


def sandbox() -> str:
    with Sandbox(POLICY, warm=True) as box:
        box.run("pass")
        box.run("pass")  # from here on boxes are copies
        found = [box.run(CODE, env=env).stdout for env in (ENV, None, {}, ENV)]
        assert found == [SEEN, PLAIN, PLAIN, SEEN]
        return box.run_program(Program.code(CODE), env=ENV).stdout


def session() -> str:
    with Sandbox(POLICY, functions={"f": abs}, warm=True) as box:
        box.run("pass")
        box.run("pass")  # from here on boxes are copies
        with box.session() as other, box.session(env=ENV) as one, one.fork() as copy:
            assert (other.exec(CODE).stdout, copy.exec(CODE).stdout) == (PLAIN, SEEN)
            return one.exec(CODE).stdout


def pool(processes: int) -> str:
    with Pool(POLICY, size=1, processes=processes) as made:
        assert made.run(CODE).stdout == PLAIN
        assert made.run_program(Program.code(CODE), env=ENV).stdout == SEEN
        return made.run(CODE, env=ENV, limits={"wall_time": 9}).stdout


WAYS: dict[str, Callable[[], str]] = {
    "run": lambda: proxybox.run(CODE, policy=POLICY, env=ENV).stdout,
    "a sandbox": sandbox,
    "a session": session,
    "a pool": lambda: pool(0),
    "a pool of processes": lambda: pool(1),
    "a loop": lambda: in_a_loop(AsyncSandbox, lambda box: box.run(CODE, env=ENV)).stdout,
    "a program in a loop": lambda: (
        in_a_loop(AsyncSandbox, lambda box: box.run_program(Program.code(CODE), env=ENV)).stdout
    ),
    "a session in a loop": lambda: in_a_loop(AsyncSandbox, in_a_session).removesuffix(SEEN),
    "a pool in a loop": lambda: in_a_loop(AsyncPool, lambda box: box.run(CODE, env=ENV)).stdout,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_has_variables_of_its_own(way: str) -> None:
    assert WAYS[way]() == SEEN


def test_what_reads_them_at_the_start_reads_them() -> None:
    result = proxybox.run("import sys; print(sys.flags.optimize, __debug__)", env={"PYTHONOPTIMIZE": "1"})
    assert result.stdout == "1 False\n"


def test_who_a_program_is_and_which_language_it_speaks() -> None:
    code = "import os; print(os.getuid(), os.getgid(), os.environ['LANG'])"
    assert proxybox.run(code).stdout == "1000 1000 C.UTF-8\n"
    result = proxybox.run(code, environment={"uid": 1234, "gid": 4321, "locale": "POSIX"})
    assert result.stdout == "1234 4321 POSIX\n"


@pytest.mark.parametrize(("env", "kind", "words"), [
    ("A=1", TypeError, "env: want a mapping of names to texts"),
    ({"A": 1}, proxybox.PolicyError, "env.A: want a text"),
    ({"A=B": "1"}, proxybox.PolicyError, "env: want a name"),
    ({"LD_PRELOAD": "/x.so"}, proxybox.PolicyError, "before the box is sealed"),
])  # fmt: skip
def test_variables_that_make_no_sense(env: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        proxybox.run("pass", env=env)
    with Sandbox() as box, pytest.raises(kind, match=words):
        box.session(env=env)


def test_all_twins_take_them() -> None:
    """All functions that run a program or start a session have the parameter: here, in an event loop, and for a
    service.
    """
    taking = [proxybox.run, Pool.run, Pool.run_program]
    kinds = Sandbox, AsyncSandbox, Client, AsyncClient
    taking += [getattr(kind, name) for kind in kinds for name in ("run", "session")]
    taking += [Sandbox.run_program, AsyncSandbox.run_program]
    assert {each.__qualname__ for each in taking if "env" not in inspect.signature(each).parameters} == set()


def test_as_many_as_a_policy_takes_are_given_to_the_program() -> None:
    """A policy refuses variables that the kernel would refuse at the start of the interpreter."""
    each = "\u00e9" * 60_000  # bytes count, not characters
    most = {f"V{number}": each for number in range(8)}
    many = dict.fromkeys(map("V{:06}".format, range(60_000)), "")
    for variables in (most, many):
        assert proxybox.run("import os; print(sum(name[0] == 'V' for name in os.environ))", env=variables).stdout == (
            f"{len(variables)}\n"
        )
        for more in ({f"W{name}": text for name, text in variables.items()}, {"W": "\u00e9" * 65_600}):
            with pytest.raises(PolicyError, match=r"at most 1 MiB of names|shorter than 128 KiB"):
                proxybox.run("", env={**variables, **more})
    with pytest.raises(PolicyError, match="at most 1 MiB"):  # together with the policy's variables
        Sandbox(environment={"variables": most}).run("", env={f"W{name}": text for name, text in most.items()})


@pytest.mark.parametrize("text", ["a secret\0", "a secret\ud800", "a secret" * 20_000])
def test_no_error_shows_the_text_of_a_variable(text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        proxybox.run("", env={"TOKEN": text})
    assert "env.TOKEN: want" in str(caught.value)
    assert "secret" not in str(caught.value)

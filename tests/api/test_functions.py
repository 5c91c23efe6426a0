"""Functions of the caller that programs call as host.NAME."""

import datetime
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import proxybox
from proxybox import HostFunction, Sandbox, Status
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool

EACH_GUEST = True


@pytest.fixture(autouse=True)
def _no_zygotes() -> Iterator[None]:
    yield
    zygotepool.close()
    reaper.settle()


def told(code: str, **functions: Any) -> proxybox.Result:
    """The Result of a program that can call these functions."""
    with Sandbox(functions=functions) as box:
        return box.run("import host\n" + code)


@pytest.mark.parametrize("warm", [False, True])
def test_values_go_and_come(warm: bool) -> None:
    seen: list[Any] = []

    def echo(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return args, kwargs

    with Sandbox(functions={"echo": echo}, warm=warm) as box:
        for _ in range(3):
            result = box.run(
                "import host, datetime\n"
                "when = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)\n"
                "args = (None, True, 10**30, 1.5, 'text', b'bytes', [1], (2,), {'k': {3}}, when)\n"
                "assert host.echo(*args, key=args) == (args, {'key': args})\n"
            )
            assert result.ok, result.stderr
    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    args = (None, True, 10**30, 1.5, "text", b"bytes", [1], (2,), {"k": {3}}, when)
    assert seen == [(args, {"key": args})] * 3


def test_exceptions_cross_as_exceptions() -> None:
    class OwnError(Exception):
        pass

    def fails(kind: str) -> None:
        raise {"key": KeyError("k"), "value": ValueError("v"), "own": OwnError("o")}[kind]

    result = told(
        "for kind in ('key', 'value', 'own'):\n"
        "    try: host.fails(kind)\n"
        "    except (KeyError, ValueError, host.HostError) as error: print(type(error).__name__, error)\n",
        fails=fails,
    )
    assert result.stdout == "KeyError \"'k'\"\nValueError v\nHostError OwnError: o\n"


def test_an_exception_of_the_guests_kind_cannot_be_chosen_by_name() -> None:
    """Only built-in exceptions are raised by name in the guest, and SystemExit is not one that a function may cause."""

    class SystemExit(Exception):  # noqa: A001 - that is the point
        pass

    def leave() -> None:
        raise SystemExit("no")

    result = told("try: host.leave()\nexcept host.HostError as error: print(error)", leave=leave)
    assert result.stdout == "SystemExit: no\n"


def test_what_is_no_plain_data_is_an_error_in_the_program() -> None:
    result = told(
        "try: host.takes(object())\nexcept TypeError as error: print(str(error).partition(' object cannot')[0])\n"
        "try: host.gives()\nexcept TypeError as error: print(str(error).partition(' object cannot')[0])\n",
        takes=lambda value: None,
        gives=object,
    )
    assert result.stdout == "args[0]: a 'object'\nwhat the host function returned cannot cross: result: a 'object'\n"


def test_sizes_are_bounded() -> None:
    functions = {"length": HostFunction(len, size="1K"), "long": HostFunction(lambda: "x" * 2000, size="1K")}
    result = told(
        "print(host.length('x' * 500))\n"
        "try: host.length('x' * 2000)\nexcept ValueError as error: print('more than 1024' in str(error))\n"
        "try: host.long()\nexcept TypeError as error: print('cannot cross' in str(error))\n",
        **functions,
    )
    assert result.stdout == "500\nTrue\nTrue\n"


def test_large_values_go_in_pieces() -> None:
    with Sandbox(functions={"twice": lambda text: text * 2}, session={"value_size": "8M"}) as box:
        result = box.run("import host; print(len(host.twice('x' * 3_000_000)))")
    assert result.stdout == "6000000\n"


def test_a_function_with_a_timeout_does_not_hold_the_program_up() -> None:
    may_end = threading.Event()
    function = HostFunction(lambda: may_end.wait(60), timeout=0.1)
    result = told("try: host.slow()\nexcept TimeoutError as error: print(error)", slow=function)
    may_end.set()
    assert result.stdout == "host.slow took longer than 0.1 seconds\n"


def test_a_function_with_a_timeout_gives_its_result() -> None:
    result = told("print(host.add(1, 2))", add=HostFunction(lambda a, b: a + b, timeout=30))
    assert result.stdout == "3\n"


def test_threads_call_at_once() -> None:
    """Each call waits for the other one, so they must run at the same time."""
    barrier = threading.Barrier(2)
    function = HostFunction(lambda: barrier.wait(30), timeout=60)
    result = told(
        "import threading\n"
        "found = []\n"
        "threads = [threading.Thread(target=lambda: found.append(host.meet())) for _ in range(2)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "print(sorted(found))\n",
        meet=function,
    )
    assert result.stdout == "[0, 1]\n", result.stderr


def test_many_threads_and_long_values_do_not_mix() -> None:
    with Sandbox(functions={"echo": lambda text: text}, session={"value_size": "4M"}) as box:
        result = box.run(
            "import host, threading\n"
            "bad = []\n"
            "def work(number):\n"
            "    text = str(number) * 700_000\n"
            "    for _ in range(3):\n"
            "        if host.echo(text) != text: bad.append(number)\n"
            "threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]\n"
            "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
            "print(bad)\n"
        )
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.parametrize("handler", [signal.default_int_handler, lambda *_: sys.exit("the handler of the caller's")])
def test_what_a_signal_raises_in_a_function_goes_through(handler: Any) -> None:
    """An exception of the caller's signal handler ends the box: Ctrl-C must stop the program at any moment."""

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(100)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with Sandbox(functions={"interrupt": interrupt}) as box, pytest.raises((KeyboardInterrupt, SystemExit)) as got:
            box.run("import host; host.interrupt()")
        assert str(got.value) in ("", "the handler of the caller's")
    finally:
        signal.signal(signal.SIGINT, before)


def test_names_that_cannot_be() -> None:
    for name in ("not a name", "__dunder__", ""):
        with pytest.raises(proxybox.PolicyError, match="identifier"):
            Sandbox(functions={name: len})
    with pytest.raises(proxybox.PolicyError, match="want a function"):
        Sandbox(functions={"f": 3})  # type: ignore[dict-item]


def test_coroutine_functions_want_a_loop() -> None:
    async def function() -> None:
        pass

    with pytest.raises(proxybox.PolicyError, match="AsyncSandbox"):
        Sandbox(functions={"f": function})


def test_without_functions_there_is_no_module() -> None:
    with Sandbox() as box:
        assert box.run("import host").error.type == "ModuleNotFoundError"  # type: ignore[union-attr]


def test_they_are_seen_by_an_audit() -> None:
    seen: list[str] = []
    with Sandbox(functions={"f": lambda: 1}, audit=lambda call: seen.append(call.name)) as box:
        assert box.run("import host; host.f()").status is Status.OK
    assert "exchange" in seen

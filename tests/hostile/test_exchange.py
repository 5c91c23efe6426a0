"""The one call between a warm guest and its caller: forged results, incomplete messages, floods, and the caller's
functions.

Whatever arrives is a claim of untrusted code. It costs the controller a bounded amount of memory, and harms only its
own box.
"""

import threading

import pytest

import proxybox
from proxybox.controller.exchange import port, values

ENOSYS, EINVAL, EFAULT, EMSGSIZE = -38, -22, -14, -90
LETTERS = [b"r", b"w", b"h", b"*", b"+", b".", b"-", b"x", b"\0", b""]


@pytest.fixture
def run(hostile, warm):
    """Runs code in a warm box, with functions of the caller's."""

    def run(code, functions=None, timeout=200, **options):
        box = warm(functions=functions, **options)
        return box.run(f"import raw, said\nfrom said import say\n{code}", files=hostile.files, timeout=timeout)

    return run


@pytest.fixture
def make(hostile, warm):
    """Makes warm sessions."""

    def session(functions=None, **options):
        made = warm(functions=functions, **options).session(files=hostile.files, timeout=200)
        made.exec("import raw, said, threading\nfrom said import say", check=True)
        return made

    return session


# --- boxes that have nothing to say -----------------------------------------------------------------------------------


def test_in_a_cold_box(hostile):
    """In a cold box every message of this call is ENOSYS."""
    out = hostile.ok(f"import said; print({{said.say(letter + b'data')[0] for letter in {LETTERS}}})")
    assert out == f"{{{ENOSYS}}}\n"


def test_a_result_of_a_plain_program(run):
    """Nobody requests a result: the call waits until the time limit."""
    result = run("print('x', flush=True); say(b'r' + bytes(100)); print('y')", timeout=2)
    assert (result.status, result.stdout) == ("time_limit", "x\n")


def test_a_result_of_another_thread_of_a_plain_program(run):
    """The result does not end the program, and the program's end does not wait for that thread."""
    result = run("""
import threading
for _ in range(5): threading.Thread(target=say, args=(b"r" + bytes(1000),), daemon=True).start()
print("still here")
""")
    assert (result.status, result.stdout) == ("ok", "still here\n")


def test_functions_in_a_box_that_has_none(run):
    result = run("print(say(b'h')[0], say(b'h' + bytes(100))[0])")
    assert result.stdout == f"{EINVAL} {EINVAL}\n", result


# --- messages ---------------------------------------------------------------------------------------------------------


def test_what_is_no_message(run):
    result = run(
        "print({say(bytes([letter]) + b'nothing')[0] for letter in range(256) if letter not in b'rd*+-'}, say(b'')[0])"
    )
    assert result.stdout == f"{{{EINVAL}}} {EINVAL}\n", result


def test_the_rest_of_no_answer(run):
    result = run("print(say(b'-'), say(b'-', 0), say(b'-', 1 << 40))")
    assert result.stdout == "(0, b'') (0, b'') (0, b'')\n", result


def test_the_wait_of_no_message(run):
    result = run("print(say(b'w')[0], say(b'*h')[0], say(b'w')[0])")
    assert result.stdout == f"{EINVAL} 0 {EINVAL}\n", result


@pytest.mark.parametrize("address", [0, 8, 1 << 46, (1 << 64) - 8])
def test_answers_that_cannot_be_stored(run, address):
    result = run(f"""
call = {values.encode(("echo", ("a" * 100,), {}))!r}
print(say(b"h" + call, 1 << 16, {address})[0], say(b"h" + call)[0] > 100)
""", {"echo": lambda text: text})  # fmt: skip
    assert result.stdout == f"{EFAULT} True\n", result


@pytest.mark.parametrize("room", [0, 1, 7, 64])
def test_answers_in_small_pieces(run, room):
    result = run(f"""
call = {values.encode(("echo", ("a" * 200,), {}))!r}
size, begun = say(b"h" + call, {room})
while len(begun) < size: begun += say(b"-", max({room}, 1))[1]
print(size == len(begun), begun.count(b"a"), say(b"-"))
""", {"echo": lambda text: text})  # fmt: skip
    assert result.stdout == "True 200 (0, b'')\n", result


def test_a_message_without_end(run, hostile):
    """The controller stores only as much of it as one value may have."""
    before = hostile.resident()
    result = run("""
piece, sizes = b"+" + bytes(1 << 18), []
say(b"*")
for _ in range(400): sizes.append(say(piece)[0])
print(sizes.count(0), set(sizes))
""")
    pieces = ((1 << 20) + port.ENVELOPE) >> 18
    assert result.stdout == f"{pieces} {{0, {EMSGSIZE}}}\n", result
    assert hostile.resident() - before < 32 << 20


def test_messages_without_end_of_many_threads(run, hostile):
    """Threads with different ids, one after another, leave no more memory than threads that live at the same time."""
    before = hostile.resident()
    result = run("""
import threading
def leave():
    assert say(b"*" + bytes(1000000))[0] == 0
for _ in range(300):
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
print("done")
""", limits={"threads": 4})  # fmt: skip
    assert result.stdout == "done\n", result
    assert hostile.resident() - before < 64 << 20


def test_answers_that_many_threads_leave(run, hostile):
    before = hostile.resident()
    result = run(f"""
import threading
call = {values.encode(("big", (), {}))!r}
def leave():
    assert say(b"h" + call, 0)[0] > 1000000
for _ in range(300):
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
print("done")
""", {"big": lambda: b"x" * 1_000_000}, limits={"threads": 4})  # fmt: skip
    assert result.stdout == "done\n", result
    assert hostile.resident() - before < 64 << 20


def test_a_message_that_was_begun_and_left(make):
    """An unfinished message is dropped when the session sends its next whole message."""
    session = make()
    assert session.exec("print(say(b'*' + bytes(1000))[0], say(b'+' + bytes(1000))[0])").stdout == "0 0\n"
    assert session.eval("'a' * 1000").value == "a" * 1000
    assert session.eval("'a' * 900_000").value == "a" * 900_000


@pytest.mark.parametrize("threads", [2, 8])
def test_messages_of_several_threads_at_once(run, threads):
    """Each thread has its own pieces and its own answer."""
    result = run(f"""
import threading
call = {values.encode(("echo", ("@" * 3000,), {}))!r}
good = []
def talk(letter):
    for _ in range(20):
        message = b"h" + call.replace(b"@", letter)
        say(b"*" + message[:1000])
        say(b"+" + message[1000:2000])
        size, answer = say(b"." + message[2000:], 100)
        while len(answer) < size: answer += say(b"-", 1000)[1]
        good.append(answer.count(letter) >= 3000)
threads = [threading.Thread(target=talk, args=(bytes([65 + index]),)) for index in range({threads})]
for each in threads: each.start()
for each in threads: each.join()
print(len(good), all(good))
""", {"echo": lambda text: text})  # fmt: skip
    assert result.stdout == f"{20 * threads} True\n", result


# --- results ----------------------------------------------------------------------------------------------------------

NO_RESULTS = {
    "nothing": b"",
    "garbage": bytes(range(256)),
    "a number": values.encode(7),
    "a text": values.encode("ok"),
    "another word": values.encode(("fine", 1)),
    "a word too few": values.encode(("ok",)),
    "a word too many": values.encode(("ok", 1, 2)),
    "numbers for texts": values.encode(("error", 1, 2, 3)),
    "a text for a number": values.encode(("exit", "0")),
    "a list as its word": values.encode((["ok"], 1)),
    "a dict": values.encode({0: "ok", 1: 1}),
    "half a result": values.encode(("ok", "a" * 100))[:50],
    "and more": values.encode(("ok", 1)) + b"more",
}


@pytest.mark.parametrize("said", NO_RESULTS.values(), ids=NO_RESULTS.keys())
def test_what_is_no_result(make, said):
    session = make()
    result = session.exec(f"say(b'r' + {said!r})")
    assert (result.status, session.alive) == ("misbehaved", False), result
    with pytest.raises(proxybox.SandboxClosedError):
        session.exec("1")


FORGED = {
    "a value": (("ok", 42), "ok"),
    "an error": (("error", "E" * 1000, "\x1b[2J" * 100, "t" * 100_000), "error"),
    "an end": (("exit", 1 << 70), "ok"),
    "an end with a status": (("exit", -1), "error"),
    "no memory": (("error", "MemoryError", "", ""), "memory_limit"),
}


@pytest.mark.parametrize(("claim", "status"), FORGED.values(), ids=FORGED.keys())
def test_a_forged_result_is_a_result(make, claim, status):
    """A forged result counts as the program's result. The answer to it is the next command, which the program may
    keep.
    """
    session = make()
    result = session.exec(f"kept = say(b'r' + {values.encode(claim)!r})")
    assert result.status == status, result
    session.exec("x = 1")  # the answer is that of the first call, which is over now
    assert session.eval("kept[0] > 0").value in (True, None)
    assert session.alive


def test_a_forged_result_of_another_thread(make):
    """The main thread still computes, and goes on during the next call."""
    session = make()
    result = session.exec(f"""
threading.Thread(target=say, args=(b"r" + {values.encode(("ok", "forged"))!r},), daemon=True).start()
while True: pass
""")
    assert result.value == "forged"
    result = session.exec("print(1)", timeout=0.4)
    assert result.status in ("time_limit", "ok", "misbehaved"), result


def test_commands_that_another_thread_takes(make):
    """The other thread gets the main thread's command and does not run it: the call ends by its limit."""
    session = make()
    session.exec(f"""
def take():
    while True: say(b"r" + {values.encode(("ok", "mine"))!r})
threading.Thread(target=take, daemon=True).start()
""")
    for _ in range(3):
        if session.alive:
            result = session.eval("6 * 7", timeout=0.4)
            assert result.status in ("ok", "time_limit", "misbehaved"), result
            assert result.value in (42, "mine", None)


def test_a_wait_that_gives_no_result(make):
    session = make()
    result = session.exec("print(say(b'w')[0])")
    assert result.stdout == f"{EINVAL}\n"


def test_a_storm_of_results(make):
    """Each result waits for an answer, but the controller waits for none of them."""
    session = make(limits={"threads": 8})
    result = session.exec(f"""
for _ in range(6): threading.Thread(target=say, args=(b"r" + {values.encode(("ok", 1))!r},), daemon=True).start()
print("done")
""")
    assert result.status == "ok"
    assert session.eval("6 * 7", timeout=2).status in ("ok", "time_limit", "misbehaved")


# --- what is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [b"", b"\xff", b"x" * 100, values.encode(None), values.encode(("value",)), values.encode(("value", {}, [])),
     values.encode(("value", {}, {}, {})), values.encode(("clear", 1)), values.encode(("other", {}, {}))],
)  # fmt: skip
def test_what_cannot_be_shown(make, said):
    """An invalid display message ends only its session. Without a callback it is not even decoded."""
    with make() as session:
        assert session.exec(f"say(b'd' + {said!r})").ok
        result = session.exec(f"say(b'd' + {said!r})", on_display=lambda event: None)
        assert (result.status, session.alive) == ("misbehaved", False), result


def test_names_and_data_of_any_kind_that_are_shown(make):
    """Names that are no strings are left out. A caller that shows the data must check it."""
    shown = []
    with make() as session:
        claim = values.encode(("display", {1: 2, "a": None, "": [b"x"]}, {b"k": 1}))
        assert session.exec(f"say(b'd' + {claim!r})", on_display=shown.append).ok
    assert [(event.data, event.metadata) for event in shown] == [({"a": None, "": [b"x"]}, {})]


def test_a_storm_of_what_is_shown(make):
    """Many threads display at once: each is answered, and all their data together is within the output limit."""
    sizes = []
    with make(output={"limit": "64K"}) as session:
        claim = values.encode(("display", {"text/plain": "a" * 1000}, {}))
        result = session.exec(
            f"def storm():\n    for _ in range(100): say(b'd' + {claim!r})\n"
            "threads = [threading.Thread(target=storm) for _ in range(4)]\n"
            "for thread in threads: thread.start()\nfor thread in threads: thread.join()",
            on_display=lambda event: sizes.append(len(event.data["text/plain"])),
        )
    assert result.ok
    assert result.truncated
    assert 50 < len(sizes) <= 64


# --- functions of the caller's ----------------------------------------------------------------------------------------

CALLS = {
    "nothing": b"",
    "garbage": bytes(range(256)),
    "another name": values.encode(("other", (), {})),
    "a name of the kind's own": values.encode(("__class__", (), {})),
    "no name": values.encode((1, (), {})),
    "a list as name": values.encode((["echo"], (), {})),
    "a list of arguments": values.encode(("echo", [1], {})),
    "no names of arguments": values.encode(("echo", (), {1: 2})),
    "names of bytes": values.encode(("echo", (), {b"text": 2})),
    "one word": values.encode(("echo",)),
    "a number": values.encode(7),
    "too many arguments": values.encode(("echo", (1, 2, 3), {})),
    "unknown arguments": values.encode(("echo", (), {"other": 1})),
    "a text that is none": values.encode(("fail", ("\ud800",), {})),
    "an odd name": values.encode(("\ud800", (), {})),
    "a long name": values.encode(("e" * 100_000, (), {})),
}


@pytest.mark.parametrize("said", CALLS.values(), ids=CALLS.keys())
def test_calls_of_functions_that_are_none(run, said):
    """Each such call is an error in the program and has no other effect."""
    called = []

    def echo(text):
        called.append(text)

    def fail(text):
        raise ValueError(f"not {text}")

    result = run(f"size, answer = say(b'h' + {said!r}); print(b'error' in answer)", {"echo": echo, "fail": fail})
    assert result.stdout == "True\n", result
    assert not called


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def raises(error):
    raise error


ODD = {
    "an object": lambda: object(),
    "a function": lambda: print,
    "too much": lambda: b"x" * (2 << 20),
    "itself": lambda: (lambda found: found.append(found) or found)([]),
    "very deep": lambda: __import__("functools").reduce(lambda inner, _: [inner], range(5000), 0),
    "an error without words": lambda: raises(Unspeakable()),
    "an error of words without end": lambda: raises(ValueError("x" * (8 << 20))),
    "no text": lambda: raises(ValueError("\ud800")),
    "too deep a recursion": lambda: (lambda f: f(f))(lambda f: f(f)),
}


@pytest.mark.parametrize("function", ODD.values(), ids=ODD.keys())
def test_what_functions_return_that_cannot_cross(run, function):
    result = run("""
import host
try: print("came", host.odd())
except Exception as error: print(type(error).__name__, len(str(error)) < 10000)
""", {"odd": function})  # fmt: skip
    assert result.ok, result
    assert result.stdout.endswith(" True\n"), result.stdout[:100]


def test_arguments_that_are_too_large(run):
    """Arguments are limited by the function's own size limit, and by that of the policy."""
    functions = {"small": proxybox.HostFunction(len, size="1K"), "large": len}
    result = run("""
import host
for call in (lambda: host.small("a" * 5000), lambda: host.large("a" * (2 << 20)), lambda: host.large("a" * 500000)):
    try: print(call())
    except (OSError, TypeError, ValueError) as error: print("refused")
""", functions)  # fmt: skip
    assert result.stdout == "refused\nrefused\n500000\n", result


def test_a_flood_of_functions_that_go_on_with_all_that_one_may_be_given(run):
    """An empty set takes 5 bytes in a message and 216 bytes in memory. Functions that run on with such arguments are
    limited.
    """
    release, begun = threading.Event(), []

    def slow(_given):
        begun.append(1)
        release.wait()

    try:
        result = run("""
import host
given, found = [set()] * 200_000, []
for _ in range(30):
    try: host.slow(given)
    except Exception as error: found.append(type(error).__name__)
print(sorted(set(found)), found.count("TimeoutError"))
host_is_there_again = host.small()
""", {"slow": proxybox.HostFunction(slow, timeout=0.001), "small": lambda: None})  # fmt: skip
        assert result.stdout == f"['RuntimeError', 'TimeoutError'] {len(begun)}\n", result
        assert len(begun) <= port.MOST_LARGE + 1
        assert result.ok, "what is small is called still"
    finally:
        release.set()


@pytest.mark.parametrize("threads", [1, 6])
def test_a_flood_of_functions_that_go_on(run, threads):
    """The program gets a TimeoutError and calls again. Functions that still run are counted, up to a maximum."""
    release, begun = threading.Event(), []

    def slow():
        begun.append(1)
        release.wait()

    try:
        result = run(f"""
import host, threading
found = []
def flood():
    for _ in range(200 // {threads}):
        try: host.slow()
        except Exception as error: found.append(type(error).__name__)
threads = [threading.Thread(target=flood) for _ in range({threads})]
for each in threads: each.start()
for each in threads: each.join()
print(sorted(set(found)), found.count("TimeoutError"))
""", {"slow": proxybox.HostFunction(slow, timeout=0.001)})  # fmt: skip
        assert result.stdout == f"['RuntimeError', 'TimeoutError'] {port.MOST_RUNNING}\n", result
        assert len(begun) == port.MOST_RUNNING
    finally:
        release.set()


def test_a_flood_of_quick_functions(run):
    result = run("import host\nfor _ in range(3000): host.f(1)\nprint('done')", {"f": lambda number: number})
    assert result.stdout == "done\n", result


def test_a_function_that_its_box_does_not_wait_for(run):
    """Its box ends before it. The function may still finish."""
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def slow():
        begun.set()
        release.wait()
        ended.set()

    try:
        result = run("""
import host, os, threading
threading.Thread(target=host.slow, daemon=True).start()
host.begun()
os._exit(3)
""", {"slow": proxybox.HostFunction(slow, timeout=60), "begun": proxybox.HostFunction(lambda: begun.wait(200), timeout=200)})  # fmt: skip
        assert (result.status, result.exit_code) == ("error", 3)
    finally:
        release.set()
    assert ended.wait(200)


def test_a_function_that_calls_its_own_session(make):
    """The session is in a call: the function fails, and the program gets that as an error."""
    sessions = []
    session = make({"again": lambda: sessions[0].eval("1").value})
    sessions.append(session)
    result = session.exec("import host; host.again()")
    assert (result.status, result.error.type) == ("error", "HostError")
    assert "SessionBusy" in result.error.message
    assert session.eval("6 * 7").value == 42


def test_a_signal_while_a_function_runs(make):
    """The program's handler runs, and the call still returns its answer."""
    begun, release = threading.Event(), threading.Event()

    def slow():
        begun.set()
        release.wait()
        return "answer"

    session = make({"slow": proxybox.HostFunction(slow, timeout=60)})
    session.exec(
        "import host, signal; signal.signal(signal.SIGINT, lambda *_: print('signal', flush=True))", check=True
    )
    threading.Thread(target=lambda: (begun.wait(200), session.interrupt())).start()
    result = session.exec("print(host.slow())", on_stdout=lambda _: release.set())
    assert result.stdout == "signal\nanswer\n", result
    assert session.eval("6 * 7").value == 42


def test_a_function_whose_answer_nobody_takes(make):
    """Ctrl-C ends the wait. The late answer is dropped, and the next call gets its own."""
    begun, release = threading.Event(), threading.Event()

    def slow():
        begun.set()
        release.wait()
        return "late"

    session = make({"slow": proxybox.HostFunction(slow, timeout=60), "quick": lambda: "quick"})
    threading.Thread(target=lambda: (begun.wait(200), session.interrupt())).start()
    try:
        assert session.exec("import host; host.slow()").error.type == "KeyboardInterrupt"
        assert session.exec("print(host.quick())").stdout == "quick\n"
    finally:
        release.set()
    assert session.exec("print(host.quick())").stdout == "quick\n"

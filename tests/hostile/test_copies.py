"""Copies of a session that nobody requested, that do not start, that come twice, or that attack their parent.

Hostile code makes each step of a copy itself (guest/copies.py). No process exists that the controller does not know,
and all processes that it knows end with their session.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import proxybox
from proxybox.controller.errors import CannotCopy
from proxybox.controller.process import birth
from proxybox.controller.warm import copies

EACH_GUEST = True
pytestmark = pytest.mark.cover(2)

#: The session's errors for a copy that could not be made.
REFUSED = (CannotCopy, proxybox.SandboxStartError)


@pytest.fixture(params=["cold", "warm"])
def make(request, sandbox, warm, hostile):
    """Makes sessions that may be copied, from a new process or from a zygote."""

    def session(branches=3, **options):
        maker = warm if request.param == "warm" else sandbox
        limits = {"wall_time": 40, **options.pop("limits", {})}  # on a busy machine the start is slow, too
        box = maker(session={"branches": branches, **options.pop("session", {})}, limits=limits, **options)
        made = box.session(files=hostile.files, timeout=200)
        made.exec("import raw, copies, os", check=True)
        return made

    return session


@pytest.fixture
def born_soon(monkeypatch):
    """Shortens the time within which a new copy must report its start."""
    monkeypatch.setattr(birth, "BIRTH_LIMIT", 0.3)


@pytest.fixture
def soon(born_soon, monkeypatch):
    """Also shortens the wait for a copy to appear. If an honest copy is late, its parent is ended, too."""
    monkeypatch.setattr(birth, "FORK_LIMIT", 0.3)


def known(*alive):
    """The process ids of the guests of these sessions."""
    return {each._live._live.process.pid for each in alive}


def strangers(hostile, before, *alive):
    """The guests that belong to no session of `alive` and were not there `before`."""
    return set(hostile.guests()) - set(before) - known(*alive)


# --- without a grant --------------------------------------------------------------------------------------------------


@pytest.mark.sized(1)
def test_a_clone_that_nobody_granted(hostile, make):
    """The clone waits for the controller, which does not allow it. The time limit ends the call."""
    session = make()
    before = hostile.guests()
    result = session.exec("print(copies.clone())", timeout=0.4)
    assert (result.status, result.stdout, session.alive) == ("time_limit", "", False)
    assert set(hostile.guests()) <= set(before)


@pytest.mark.sized(1)
def test_clones_of_many_threads_that_nobody_granted(hostile, make):
    session = make()
    before = hostile.guests()
    result = session.exec("""
import threading
found = []
def attack():
    made = raw.words([copies.CLONE] * 20)
    raw.batch(made)
    found.extend(raw.signed(word) for word in made[7::8])
threads = [threading.Thread(target=attack) for _ in range(7)]
for each in threads: each.start()
for each in threads: each.join()
print(set(found), len(found))
""")
    assert result.stdout == "{-11} 140\n", result
    assert set(hostile.guests()) <= set(before)


@pytest.mark.cover(1)
@pytest.mark.parametrize("flags", [0x8001, 0x8011, 0x8100, 0x1200011, 0x11, 0x10008000, 0x80008000, 0x1_0000_8000])
def test_other_kinds_of_copies(make, hostile, flags):
    """The filter has no row for clones with shared memory, other namespaces or other signals."""
    session = make()
    result = session.exec(f"""
print(raw.trapped_syscalls([(56, {flags}, 0, 0, 0, 0, raw.ROUTE)], {hostile.symbol("on_sigsys")}) == [raw.TRAPPED])
""")
    assert result.stdout == "True\n", result


def test_a_grant_of_a_thread_is_none_of_a_copy(hostile, make):
    """The handler has granted a thread, but the notified clone would make a copy: it is refused."""
    session = make()
    before = hostile.guests()
    result = session.exec("""
import threading
lock = threading.Lock()
lock.acquire()
thread = threading.Thread(target=lock.acquire)
thread.start()
for _ in range(3):
    print(raw.ask(56, (0x3d0f00, 1 << 16, 0, 0, 0))[0] > 0, copies.clone())
""")
    assert result.stdout == "True -11\n" * 3, result
    assert set(hostile.guests()) <= set(before)


@pytest.mark.sized(1)
def test_a_grant_of_a_copy_is_none_of_a_thread(hostile, make, soon):
    session = make()
    session.exec("""
def fork():
    copies.granted()
    raw.syscall(56, 0x3d0f00, raw.code(bytes(1 << 16)) + 32768, 0, 0, 0, raw.ROUTE)
copies.replace_fork(fork)
""")
    with pytest.raises(REFUSED):
        session.fork()
    assert not session.alive


def test_a_fork_bomb(hostile, make):
    session = make()
    before = hostile.guests()
    result = session.exec("""
refused = 0
for _ in range(200):
    try: os.fork()
    except PermissionError: refused += 1
print(refused)
""")
    assert result.stdout == "200\n", result
    assert set(hostile.guests()) == set(before)
    assert sum(result.denials.values()) == 200


def test_a_session_that_may_not_be_copied(hostile, sandbox):
    """Its filter has no row for a copy, and nobody grants one."""
    with sandbox().session(files=hostile.files) as session:
        calls = "[(56, 0x8000, 0, 0, 0, 0, raw.ROUTE), (157, 1, 9, 0, 0, 0, raw.ROUTE)]"
        result = session.exec(f"import raw; print(raw.trapped_syscalls({calls}, {hostile.symbol('on_sigsys')}))")
        assert result.stdout == f"[{-0x7EAD}, {-0x7EAD}]\n"
        with pytest.raises(CannotCopy):
            session.fork()


# --- copies that were asked for ---------------------------------------------------------------------------------------


def test_a_copy_made_by_hand_works(hostile, make):
    """The steps of guest/copies.py make a working copy, so they are those of the stub."""
    session = make()
    session.exec("copies.instead(copies.be_born); x = 1", check=True)
    with session.fork() as copy:
        copy.exec("x = 2", check=True)
        assert (session.get("x"), copy.get("x")) == (1, 2)


#: What the child does instead of its first call.
NEVER = {
    "sleeps": "raw.exchange(raw.SLEEP)",
    "computes": "raw.function(bytes([0xEB, 0xFE]))()",
    "leaves": "raw.exchange(raw.LEAVE)",
    "clones on": "copies.clone()",
    "clones a thread": "raw.syscall(56, 0x3d0f00, raw.code(bytes(1 << 16)) + 32768, 0, 0, 0, raw.ROUTE)",
    "dies": "raw.exchange((15,))",
}


@pytest.mark.sized(4)
@pytest.mark.parametrize("what", NEVER)
def test_a_child_that_does_not_come(hostile, make, soon, what):
    """The parent is ended, and so is the child."""
    session = make()
    before = set(hostile.guests()) - known(session)
    session.exec(f"""
def child():
    {NEVER[what]}
copies.instead(child)
""")
    with pytest.raises(REFUSED):
        session.fork()
    assert not session.alive
    session.close()
    proxybox.controller.process.reaper.settle()
    assert set(hostile.guests()) == before


@pytest.mark.sized(1)
def test_a_parent_that_makes_no_child(hostile, make, soon):
    session = make()
    session.exec("copies.replace_fork(lambda: (copies.granted(), raw.exchange(raw.SLEEP)))")
    with pytest.raises(REFUSED, match="did not come"):
        session.fork()
    assert not session.alive


def test_a_parent_that_makes_two(hostile, make, soon):
    """One grant allows one clone: the second is refused, and the session goes on."""
    session = make()
    before = hostile.guests()
    session.exec("""
seen = []
def fork():
    pid = copies.granted()
    for _ in range(3):
        made = copies.clone()
        if made == 0:
            copies.be_born()
            return 0
        if made < 0: break
    seen.append(made)
    return pid
copies.replace_fork(fork)
""")
    # The second clone waits until the driver reads the listener, which it does when the session has threads.
    try:
        copy = session.fork()
    except REFUSED:
        copy = None
    assert not strangers(hostile, before, *([copy] if copy else []))
    if copy is not None:
        copy.close()


@pytest.mark.sized(1)
def test_a_child_that_knocks_twice(hostile, make, born_soon):
    """The second call waits until its time is over. The parent goes on."""
    session = make()
    session.exec("""
def child():
    copies.be_born()
    copies.knock()
copies.instead(child)
""")
    with pytest.raises(REFUSED):
        session.fork()
    assert session.eval("6 * 7").value == 42


@pytest.mark.sized(1)
def test_a_child_that_knocks_twice_before_it_is_born(hostile, make, born_soon):
    session = make()
    session.exec("copies.instead(lambda: (copies.knock(), copies.knock()))")
    with pytest.raises(REFUSED):
        session.fork()
    assert session.eval("6 * 7").value == 42


@pytest.mark.sized(1)
def test_a_parent_that_knocks(hostile, make):
    """A known guest that makes a new copy's first call is not accepted as a new copy."""
    session = make()
    result = session.exec("print(copies.knock())", timeout=0.4)
    assert (result.status, result.stdout, session.alive) == ("time_limit", "", False)


@pytest.mark.sized(1)
def test_a_parent_that_knocks_while_a_child_is_awaited(hostile, make, soon):
    session = make()
    session.exec("copies.instead(copies.be_born, lambda pid: copies.knock())")
    with pytest.raises(REFUSED):
        session.fork()
    assert not session.alive


@pytest.mark.cover(1)
@pytest.mark.parametrize(
    "said",
    ["raw.frame(39)", "raw.frame(39)[:20]", "raw.frame(raw.BORN, (1, 1, 1)) * 2", "bytes(56)", "b''"],
    ids=["another call", "a part", "two", "nonsense", "nothing"],
)
def test_a_child_that_does_not_say_what_it_shall(hostile, make, born_soon, said):
    session = make()
    session.exec(f"""
def child():
    copies.knock()
    raw.exchange(raw.put({said}), raw.SLEEP)
copies.instead(child)
""")
    with pytest.raises(REFUSED):
        session.fork()
    assert session.eval("6 * 7").value == 42


@pytest.mark.cover(1)
@pytest.mark.parametrize("size", [0, 1 << 63, (1 << 64) - 1])
def test_a_child_that_says_where_a_filter_shall_go(hostile, make, size):
    """A copy already has its parent's filter. The controller stores no filter for it, whatever address the child
    names.
    """
    session = make()
    session.exec(f"""
def child():
    copies.knock()
    assert raw.ask(copies.BORN, ({size}, {size}, {size})) == (0, b"")
copies.instead(child)
""")
    with session.fork() as copy:
        assert copy.eval("6 * 7").value == 42


# --- what a copy could hold of its parent's ---------------------------------------------------------------------------


@pytest.mark.cover(1)
@pytest.mark.parametrize(
    "said", ["raw.frame(39)", "raw.frame(39)[:20]", "bytes(1 << 15)"], ids=["call", "part", "flood"]
)
def test_frames_into_the_parents_channel_before_the_door(hostile, make, said):
    """Until its first call the child has its parent's pipe. Frames that it writes there may harm the parent, like the
    parent's own code.
    """
    session = make()
    session.exec(f"""
def child():
    raw.syscalls([raw.put({said})])
    copies.be_born()
copies.instead(child)
""")
    try:
        copy = session.fork()
    except REFUSED:
        return
    assert copy.eval("6 * 7").value == 42
    copy.close()


@pytest.mark.sized(1)
def test_answers_from_the_parents_channel_before_the_door(hostile, make, soon):
    """The parent gets no answer until the child has made its first call, so a child that reads there waits in vain."""
    session = make()
    session.exec("copies.instead(lambda: raw.exchange(raw.TAKE, raw.TAKE))")
    with pytest.raises(REFUSED):
        session.fork()
    assert not session.alive


THREADS = """
import threading
release = threading.Event()
threads = [threading.Thread(target=release.wait) for _ in range(3)]
for each in threads: each.start()
release.set()
for each in threads: each.join()
"""


def test_pipes_of_the_parents_threads(hostile, make):
    """A channel stays with the guest after its thread has ended. In a copy the same numbers are the copy's own
    pipes.
    """
    session = make()
    session.exec(THREADS, check=True)
    with session.fork() as copy, copy.fork() as second:
        for each in (second, copy):
            result = each.exec("raw.exchange(*(raw.put(bytes(7), fd=fd) for fd in (6, 8, 10)), raw.SLEEP)", timeout=100)
            assert result.status == "misbehaved", "what it wrote there came to its own reader"
        session.exec(THREADS, check=True)
        assert session.eval("6 * 7").value == 42


def test_what_a_copy_reads_is_its_own(hostile, make):
    """A copy does not read answers to a thread of its parent, though it has inherited a channel of that number."""
    session = make()
    session.exec(THREADS, check=True)
    with session.fork() as copy:
        attack = "print(raw.syscalls([raw.put(raw.frame(39)), *((0, fd, *raw.TAKE[2:]) for fd in (5,))]), raw._inbox.raw[8:12])"
        seen = copy.eval("os.getpid()").value
        result = copy.exec(attack)
        assert result.stdout == f"[56, 16] {seen.to_bytes(4, 'little')}\n", result


@pytest.mark.sized(1)
def test_files_and_names_of_a_copy_are_its_own(hostile, make):
    session = make()
    session.exec("f = open('a', 'w'); f.write('before'); f.flush()", check=True)
    with session.fork() as copy:
        copy.exec("f.write('copy'); f.close(); os.unlink('a'); os.chdir('/tmp'); os.umask(0); os.environ['X'] = '1'")
        assert session.eval("(open('a').read(), os.getcwd(), 'X' in os.environ)").value == ("before", "/box", False)
        session.exec("open('b', 'w').write('trunk')", check=True)
        assert copy.eval("os.path.exists('/box/b')").value is False


# --- limits and the seal in copies ------------------------------------------------------------------------------------


def test_more_copies_than_the_policy_allows(make):
    session = make(branches=2)
    one, two = session.fork(), session.fork()
    for each in (session, one, two):
        with pytest.raises(CannotCopy, match="allows 2"):
            each.fork()
    two.close()
    three = one.fork()
    for each in (one, three):
        each.close()
    assert session.eval("6 * 7").value == 42


@pytest.mark.sized(1)
def test_copies_while_threads_live(make):
    session = make()
    session.exec(
        "import threading; lock = threading.Lock(); lock.acquire()\n"
        "thread = threading.Thread(target=lock.acquire, daemon=True); thread.start()"
    )
    with pytest.raises(CannotCopy, match="2 threads"):
        session.fork()
    session.exec("lock.release(); thread.join()", check=True)
    with session.fork() as copy:
        assert copy.eval("threading.active_count()").value >= 1


@pytest.mark.sized(1)
def test_a_thread_that_is_said_to_have_ended_makes_the_copy(hostile, make, soon):
    """A frame falsely reports a thread's end. The main thread requests a copy, and the other thread clones.

    The copy has one thread, or there is no copy.
    """
    session = make()
    before = hostile.guests()
    session.exec("""
import threading
go = raw.words([raw.put(raw.frame(60, (0,)), fd=6), *[(24,)] * 200000, copies.CLONE, copies.KNOCK, raw.LEAVE])
threading.Thread(target=raw.batch, args=(go,), daemon=True).start()
while not go[7]: pass
copies.replace_fork(lambda: (copies.granted(), raw.exchange(raw.SLEEP)))
""")
    with pytest.raises(REFUSED):
        session.fork()
    assert not strangers(hostile, before)


@pytest.mark.sized(1)
def test_memory_in_a_copy(make):
    session = make(limits={"memory": "300M"})
    session.exec("held = bytearray(80 << 20)", check=True)
    with session.fork() as copy:
        for each in (copy, session):
            assert each.exec("more = bytearray(250 << 20)").status == "memory_limit"
            assert each.exec("len(held)").ok


@pytest.mark.sized(1)
def test_the_clock_of_a_copy_runs(make):
    session = make(limits={"cpu_time": 0.5}, session={"grace": 0})
    with session.fork() as copy:
        result = copy.exec("while True: pass")
        assert (result.status, result.why.partition(";")[0], copy.alive) == ("time_limit", "limits.cpu_time", False)
    assert session.eval("6 * 7").value == 42


@pytest.mark.sized(1)
def test_the_calls_of_a_session_are_counted_in_its_copies(make):
    session = make(session={"calls": 3000})
    session.exec("for _ in range(1000): os.getppid()", check=True)
    with session.fork() as copy:
        result = copy.exec("for _ in range(2500): os.getppid()")
        assert (result.status, result.why) == ("call_limit", "session.calls; the session has ended")
        assert not copy.alive
    assert session.exec("for _ in range(500): os.getppid()").ok


def test_a_copy_is_as_sealed_as_its_parent(hostile, make):
    """The kernel's status of each copy is its parent's, and every call that could weaken the seal traps."""
    session = make()
    with session.fork() as copy, copy.fork() as second:
        facts = [facts_of(pid) for each in (session, copy, second) for pid in known(each)]
        assert facts[0] == facts[1] == facts[2]
        assert facts[0]["Seccomp"] == "2"
        assert facts[0]["NoNewPrivs"] == "1"
        calls = """[(317, 1, 0, page), (317, 0, 0, 0), (157, 1, 0, 0, 0, 0, R), (157, 1, 15, 0, 0, 0, R), (157, 2, page, 0, 0, 0, R),
            (157, 4, 1, 0, 0, 0, R), (157, 22, 2, page, 0, 0, R), (157, 38, 0, 0, 0, 0, R), (157, 36, 1, 0, 0, 0, R),
            (157, 1, 9 | 1 << 32, 0, 0, 0, R), (157, 1, 9, 0, 0, 0, 0), (109, 0, 0), (160, 0, page), (160, 9, page),
            (203, 0, 8, page), (302, 0, 9, page, 0), (101, 0, 0, 0, 0), (62, 1, 9), (310, 1, page, 1, page, 1, 0)]"""
        result = second.exec(f"""
R, page = raw.ROUTE, raw.code(bytes(4096))
print(set(raw.trapped_syscalls({calls}, {hostile.symbol("on_sigsys")})) == {{raw.TRAPPED}})
""")
        assert result.stdout == "True\n", result


def facts_of(pid):
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    wanted = (
        "Seccomp",
        "Seccomp_filters",
        "NoNewPrivs",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "Uid",
        "Gid",
        "Groups",
    )
    facts = {key: value.strip() for key, _, value in lines if key in wanted}
    return facts | {"limits": Path(f"/proc/{pid}/limits").read_text(), "nice": os.getpriority(os.PRIO_PROCESS, pid)}


# --- ends -------------------------------------------------------------------------------------------------------------

MOMENTS = [(birth, "_at_first_call"), (birth, "open_channel"), (birth, "_frame"), (copies, "inspect_seal")]


@pytest.mark.cover(1)
@pytest.mark.parametrize("victim", ["parent", "copy"])
@pytest.mark.parametrize(("module", "name"), MOMENTS, ids=[name for _, name in MOMENTS])
@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
def test_killed_at_each_moment(hostile, make, monkeypatch, soon, module, name, behind, victim):
    session = make()
    (parent,) = known(session)
    others = set(hostile.guests())
    function = getattr(module, name)

    def kill():
        doomed = [parent] if victim == "parent" else set(hostile.guests()) - others
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)

    def around(*args, **options):
        if behind:
            result = function(*args, **options)
            kill()
            return result
        kill()
        return function(*args, **options)

    monkeypatch.setattr(module, name, around)
    try:
        copy = session.fork()
    except REFUSED:
        copy = None
    monkeypatch.undo()
    if victim == "parent":
        assert not session.alive
    if copy is not None:
        copy.exec("x = 1")  # whatever the outcome
        copy.close()
    session.close()
    proxybox.controller.process.reaper.settle()
    assert set(hostile.guests()) == others - {parent}


def test_the_trunk_ends_and_its_copies_go_on(hostile, make):
    session = make()
    one = session.fork()
    two = one.fork()
    session.close()
    one.close()
    assert two.eval("6 * 7").value == 42
    two.close()
    proxybox.controller.process.reaper.settle()
    assert not known(two) & set(hostile.guests())


def test_closed_while_it_runs(hostile, make):
    """Another thread closes the session in the middle of a call: the call returns, and nothing is left."""
    session = make()
    result = session.exec("print('x', flush=True)\nwhile True: os.getppid()", on_stdout=lambda _: session.close())
    assert (result.status, session.alive) == ("cancelled", False)


ORPHANS = """
import sys, os
import proxybox
from proxybox.controller.seal import layers
from proxybox.controller.warm import zygotepool
if {layers!r} == "off": layers.USED.clear()
from tests.hostile.conftest import children
box = proxybox.Sandbox(warm=True, session={{"branches": 3}})
zygotepool.zygote_pool().find(box._box(None), now=True)
cold = proxybox.Sandbox(warm=False, session={{"branches": 3}}).session()
warm = box.session()
held = [cold, warm, cold.fork(), warm.fork(), warm.fork().fork()]
def tell(_):
    print(*children(), flush=True)
    sys.stdin.read()
box.run("print(1, flush=True)\\nwhile True: pass", on_stdout=tell)
"""


def test_nothing_outlives_its_controller(hostile, without_layers):
    """After kill -9 of a controller all its zygotes, sessions, copies and copies of copies end, also a computing
    box.
    """
    import time

    code = ORPHANS.format(layers="off" if without_layers else "on")
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as controller:
        pids = [int(word) for word in controller.stdout.readline().split()]
        assert len(pids) >= 7, pids
        controller.kill()
        end = time.monotonic() + 100
        while any(is_running(pid) for pid in pids):
            assert time.monotonic() < end, [pid for pid in pids if is_running(pid)]
            time.sleep(0.01)


def is_running(pid):
    """Whether a process has not ended. It may stay a zombie where nobody waits for orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.sized(1)
@pytest.mark.parametrize("when", ["before", "after_in_parent", "after_in_child"])
def test_functions_of_the_programs_that_do_not_let_it_be_copied(when, monkeypatch):
    """Making a copy ends even when the policy has no time limits."""
    monkeypatch.setattr("proxybox.controller.warm.session.COPY_LIMIT", 0.5)
    limits = {"wall_time": None, "cpu_time": None}
    with proxybox.Sandbox(warm=False, limits=limits, session={"branches": 2}) as box, box.session() as session:
        session.exec(f"import os\ndef stay():\n    while True: pass\nos.register_at_fork({when}=stay)", check=True)
        with contextlib.suppress(proxybox.CannotCopy):
            session.snapshot().close()
        assert not session.alive or session.eval("6 * 7").value == 42


def test_time_of_the_kernel_is_not_the_programs(make, monkeypatch):
    """While the kernel copies a process the wall-time limit is off: on a busy machine that may be slow."""
    session, seen, real = make(), [], copies.adopt

    def adopt(parent, *args, **options):
        seen.append(parent.watch.deadline_ns)
        return real(parent, *args, **options)

    monkeypatch.setattr(copies, "adopt", adopt)
    session.fork().close()
    assert seen == [None]

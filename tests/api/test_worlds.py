"""The effects of policies on a box: time, randomness, environment, refusals."""

import datetime
import time
from typing import Any

import pytest

import proxybox
from proxybox import OSCall, Policy, Status, Time
from proxybox.controller import find_guest
from proxybox.controller.seal import layers
from proxybox.policies.models import LAYERS

# --- time -------------------------------------------------------------------------------------------------------------

CLOCKS = """
import time, datetime, os, threading
clocks = [time.time, time.monotonic, time.perf_counter, datetime.datetime.now().timestamp,
          lambda: time.clock_gettime(time.CLOCK_REALTIME), lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
          lambda: os.times().elapsed]
"""


def test_real_time() -> None:
    before = time.time()
    result = proxybox.run("import time; print(time.time()); time.sleep(0.2); print(time.time())")
    first, second = map(float, result.stdout.split())
    assert before <= first <= second - 0.2 <= time.time()


def test_real_time_with_skipped_sleeps() -> None:
    code = "import time as t; a, b = t.time(), t.monotonic(); t.sleep(3600); print(t.time() - a, t.monotonic() - b)"
    result = proxybox.run(code, time=Time.real(sleep="skip"))
    assert result.ok
    assert all(3600 <= float(text) < 3660 for text in result.stdout.split())
    assert result.usage.wall < 10


def test_frozen_time() -> None:
    code = (
        CLOCKS
        + """
first = [clock() for clock in clocks]
x = sum(range(10**6))
time.sleep(50)
print([clock() for clock in clocks] == first, datetime.datetime.now())
open("x", "w").close()
print(os.stat("x").st_mtime, os.stat("/tmp").st_ctime)
"""
    )
    result = proxybox.run(code, time=Time.frozen("2001-02-03T04:05:06"))
    assert result.stdout == "True 2001-02-03 04:05:06\n981173106.0 981173106.0\n", result.stderr


def test_virtual_time() -> None:
    code = """
import time, datetime, threading, queue
start = time.monotonic()
time.sleep(86400)
print(datetime.date.today(), 86400 <= time.monotonic() - start < 86401)
try:
    queue.Queue().get(timeout=100)
except queue.Empty:
    print("empty", 86500 <= time.monotonic() - start < 86501)
print(threading.Event().wait(1000), threading.Lock().acquire() and time.monotonic() - start < 87501)
"""
    started = time.monotonic()
    result = proxybox.run(code, time=Time.virtual("2030-01-01"), limits={"wall_time": 200})
    assert result.stdout == "2030-01-02 True\nempty True\nFalse True\n", result.stderr
    assert time.monotonic() - started < 150


def test_virtual_time_of_several_threads() -> None:
    code = """
import threading, time
late = []
def wait(seconds):
    time.sleep(seconds)
    late.append(time.monotonic() - start - seconds)
start = time.monotonic()
threads = [threading.Thread(target=wait, args=(s,)) for s in (300, 100, 200)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(late), min(late) >= 0)
"""
    result = proxybox.run(code, time="virtual", limits={"wall_time": 200})
    assert result.stdout == "3 True\n", result.summary()


def test_scaled_time() -> None:
    code = """
import time
start = time.time(), time.monotonic()
time.sleep(100)
print(time.time() - start[0] >= 100, time.monotonic() - start[1] >= 100, time.gmtime(start[0]).tm_year)
"""
    result = proxybox.run(code, time=Time.scaled(1000, start="1999-01-01"))
    assert result.stdout == "True True 1999\n"
    assert 0.1 <= result.usage.wall < 8


def test_signals_follow_the_boxs_clock() -> None:
    code = """
import signal, time
signal.signal(signal.SIGALRM, lambda *_: print("alarm", 1000 <= time.monotonic() - start < 1001))
start = time.monotonic()
signal.alarm(1000)
signal.pause()
"""
    assert proxybox.run(code, time="virtual").stdout == "alarm True\n"


def test_file_times_of_a_mounted_folder_are_the_hosts(tmp_path: Any) -> None:
    (tmp_path / "old.py").write_text("import os; print(os.stat(__file__).st_mtime)")
    import os

    os.utime(tmp_path / "old.py", (5, 7))
    assert proxybox.run(tmp_path / "old.py", time="virtual").stdout == "7.0\n"


@pytest.mark.parametrize("start", [datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC), 86400, "1970-01-02T00:00:00Z"])
def test_forms_of_a_moment(start: Any) -> None:
    assert proxybox.run("import time; print(int(time.time()))", time=Time.virtual(start)).stdout == "86400\n"


# --- randomness -------------------------------------------------------------------------------------------------------

CHANCE = """
import os, random, secrets, uuid, time, tempfile, sys, hashlib, json, threading
print(random.random(), hash("text"), os.urandom(8), secrets.token_hex(4), uuid.uuid4(), uuid.uuid1())
print(id(object()), {str(n) for n in range(5)}, tempfile.mktemp(), time.time(), time.process_time(), os.getpid())
print(open("/dev/urandom", "rb").read(5), hash(object()), sorted(os.listdir("/")), object())
data = {str(n): n for n in range(1000)}
open(tempfile.mkstemp(dir=".")[1], "w").write(json.dumps(data))
print(hashlib.sha256(repr(sorted(os.listdir("."))).encode()).hexdigest(), os.stat(".").st_mtime_ns)
sys.exit(random.randrange(100))
"""


def record(seed: int | str, code: str = CHANCE, **fields: Any) -> tuple[proxybox.Result, list[tuple[Any, ...]]]:
    """Runs code, and returns the Result and each of its OS calls: name, arguments, result."""
    calls: list[tuple[Any, ...]] = []

    def audit(call: OSCall) -> None:
        # The buffer that ioctl(2) fills in contains old data of the stack, such as glibc's own canary.
        arguments = {} if call.name == "ioctl" else call.arguments
        calls.append((call.name, tuple(arguments.items()), call.result))

    with proxybox.Sandbox(randomness=seed, audit=audit, **fields) as box:
        return box.run(code, stdin="same"), calls


def test_a_seed_repeats_everything() -> None:
    first, calls = record(42, time="virtual")
    again, others = record(42, time="virtual")
    assert first.exit_code not in (None, 1), first.stderr
    assert again.stdout == first.stdout
    assert again.exit_code == first.exit_code
    assert dict(again.files) == dict(first.files)
    assert [call[0] for call in others] == [call[0] for call in calls]
    assert others == calls  # addresses included
    assert again.usage.calls == first.usage.calls


def test_another_seed_is_another_world() -> None:
    assert record(1, time="virtual")[0].stdout != record(2, time="virtual")[0].stdout
    assert record("system")[0].stdout != record("system")[0].stdout


def test_seeds_at_their_bounds() -> None:
    for seed in (0, 2**64 - 1):
        results = {proxybox.run("import os; print(hash('x'), os.urandom(3))", randomness=seed).stdout for _ in range(2)}
        assert len(results) == 1
    with pytest.raises(proxybox.PolicyError):
        proxybox.run("pass", randomness=-1)


# --- environment ------------------------------------------------------------------------------------------------------


def test_nothing_of_the_host_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the host")
    result = proxybox.run("import os, sys; print(sorted(os.environ)); print(sys.flags.ignore_environment)")
    assert "SECRET" not in result.stdout
    assert set(eval(result.stdout.splitlines()[0])) <= {
        "HOME", "LANG", "LOGNAME", "PATH", "PYTHONDONTWRITEBYTECODE", "TZ", "USER", *find_guest().pools,
    }  # fmt: skip


def test_pools_of_threads_have_one_unless_the_policy_says_otherwise() -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.cpu_count())"
    assert proxybox.run(code, environment={"cpu_count": 4}).stdout == "1 4\n"
    assert proxybox.run(code, environment={"variables": {"OMP_NUM_THREADS": "3"}}).stdout == "3 1\n"


def test_what_the_program_believes_of_itself() -> None:
    code = """
import os, socket, getpass, locale, platform, pwd, grp, pathlib, multiprocessing
print(os.environ["GREETING"], os.getuid(), os.geteuid(), os.getgid(), os.getgroups(), getpass.getuser())
print(socket.gethostname(), platform.node(), os.uname().nodename, os.cpu_count(), multiprocessing.cpu_count())
print(os.getcwd(), pathlib.Path.home(), os.path.expanduser("~ada"), pwd.getpwuid(os.getuid()).pw_name)
print(grp.getgrgid(os.getgid()).gr_name, os.environ["LANG"], os.access(pathlib.Path.home(), os.W_OK))
"""
    environment = {
        "variables": {"GREETING": "hello ü"}, "user": "ada", "uid": 1234, "gid": 56, "hostname": "engine",
        "cpu_count": 4, "cwd": "/tmp", "home": "/home/ada", "locale": "C.UTF-8",
    }  # fmt: skip
    result = proxybox.run(code, environment=environment)
    assert result.stdout.splitlines() == [
        "hello ü 1234 1234 56 [] ada",
        "engine engine engine 4 4",
        "/tmp /home/ada /home/ada ada",
        "ada C.UTF-8 True",
    ], result.stderr


def test_a_folder_to_start_in_that_is_not_there() -> None:
    with pytest.raises(proxybox.SandboxStartError, match=r"environment.cwd: /none"):
        proxybox.run("pass", environment={"cwd": "/none"})


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_refusal_is_an_errno_and_told() -> None:
    result = proxybox.run("import os\nfor _ in range(3):\n  try: os.fork()\n  except PermissionError: print('no')")
    assert result.stdout == "no\nno\nno\n"
    ((denial, count),) = result.denials.items()
    assert (denial.call, denial.errno, denial.reason, count) == ("clone", "EPERM", "fork is refused", 3)


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.fork()",
        "import socket; socket.socket()",
        "import os; os.execv('/usr/bin/pypy3', ['x'])",
        "import os; os.mkdir(os.__file__ + 'x')",
    ],
)
def test_a_refusal_may_end_the_box(code: str) -> None:
    result = proxybox.run(f"print('before', flush=True)\n{code}\nprint('after')", on_denied="end")
    assert (result.status, result.stdout) == (Status.DENIED, "before\n")
    assert result.why


def test_layers_that_are_required_and_not_there() -> None:
    seen = proxybox.run("pass").layers
    assert "seal" in seen
    for layer in LAYERS:
        if layers.is_missing(seen[layer]):
            with pytest.raises(proxybox.SandboxStartError, match=f"require_layers.*{layer}"):
                proxybox.run("pass", require_layers=[layer])
        else:
            assert proxybox.run("print('ran')", require_layers=[layer]).stdout == "ran\n"


def test_a_required_layer_that_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "USED", set())
    assert not set(LAYERS) & set(proxybox.run("pass").layers)
    with pytest.raises(proxybox.SandboxStartError, match="landlock: turned off"):
        proxybox.run("pass", require_layers=["landlock"])


@pytest.mark.parametrize("preset", ["strict", "default", "classroom", "repl"])
def test_presets(preset: str) -> None:
    assert proxybox.run("print(sum(range(10)))", policy=preset).stdout == "45\n"


def test_a_policy_and_its_fields() -> None:
    policy = Policy(limits={"wall_time": 0.3}, environment={"user": "eve"})
    assert proxybox.run("while True: pass", policy=policy).status is Status.TIME_LIMIT
    result = proxybox.run("import os; print(os.environ['USER'])", policy=policy, limits={"wall_time": 100})
    assert result.stdout == "eve\n"
    with pytest.raises(proxybox.PolicyError):
        proxybox.run("pass", limit={"wall_time": 5})
    with pytest.raises(proxybox.PolicyError):
        proxybox.run("pass", policy="nonsense")


def test_a_policy_from_a_file(tmp_path: Any) -> None:
    (tmp_path / "policy.toml").write_text(
        '[environment]\nuser = "bob"\n[time]\nkind = "frozen"\nat = 2020-02-02T00:00:00Z\n'
    )
    try:
        result = proxybox.run(
            "import os, time; print(os.environ['USER'], time.time())", policy=tmp_path / "policy.toml"
        )
    except proxybox.PolicyError:
        (tmp_path / "policy.toml").write_text(
            '[environment]\nuser = "bob"\n[time]\nkind = "frozen"\nstart = 2020-02-02T00:00:00Z\n'
        )
        result = proxybox.run(
            "import os, time; print(os.environ['USER'], time.time())", policy=tmp_path / "policy.toml"
        )
    assert result.stdout == "bob 1580601600.0\n"

"""Simulated students and their teacher: their work in a lesson, and their counts.

Each is a client like a browser: a cookie, an Origin, and one stream of events. It is cut off from time to time, and
continues after the last event that was seen.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import httpx

from tests.classroom.listening import Told, event_of

#: Seconds within which a run must end, and within which events must come at the end of the lesson.
PATIENCE = 90
#: Seconds after which a stream is cut off.
CUT = (4, 25)

#: Programs of hostile students.
HOSTILE = (
    "while True: pass",
    "while True: print('x' * 1000)",
    "import os\nwhile True: os.fork()",
    "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()",
    "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "import os\nwhile True: os.stat('/')",
    "while True:\n    try: 1 / 0\n    except Exception: pass",
    "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "def f(): f()\nf()",
    "import os\nfor i in range(10**6): open(f'f{i}', 'w').write('x' * 1000)",
    "raise SystemError('x' * 100_000)",
)


@attrs.frozen
class Good:
    """A program and its result. says: its output. given: its input. shows: the number of its pictures."""

    code: str
    says: str
    given: tuple[str, ...] = ()
    shows: int = 0
    status: str = "ok"


def _lines(word: str, chance: random.Random) -> Good:
    count = chance.randrange(1, 60)
    said = "".join(f"{word} {n}\n" for n in range(count))
    return Good(f"for n in range({count}):\n    print({word!r}, n)\n", said)


def _slow(word: str, chance: random.Random) -> Good:
    code = f"for n in range(12):\n    print({word!r}, n, flush=True)\n    sum(k * k for k in range(20_000))\n"
    return Good(code, "".join(f"{word} {n}\n" for n in range(12)))


def _asks(word: str, chance: random.Random) -> Good:
    code = f"name = input('{word}? ')\nprint('Hello', name)\nage = int(input('age? '))\nprint(age + 1)\n"
    return Good(code, f"{word}? Hello Ada\nage? 42\n", given=("Ada\n", "41\n"))


def _shows(word: str, chance: random.Random) -> Good:
    code = f"class P:\n    def _repr_png_(self): return b'x' * 20_000\nprint({word!r})\ndisplay(P())\nprint('end')\n"
    return Good(code, f"{word}\nend\n", shows=1)


def _fails(word: str, chance: random.Random) -> Good:
    return Good(f"print({word!r})\nnumbers = [1, 2]\nnumbers[2]\n", f"{word}\n", status="error")


GOOD = (_lines, _lines, _slow, _asks, _shows, _fails)


@attrs.define
class Tally:
    """The counts of a lesson. first: seconds from Run to the first output, by phase. faults: errors, as text.

    ends_at: when each phase ended, by the monotonic clock.
    """

    first: dict[str, list[float]] = attrs.field(factory=lambda: defaultdict(list))
    saves: list[float] = attrs.field(factory=list)
    others: dict[str, list[float]] = attrs.field(factory=lambda: defaultdict(list))
    grid: list[float] = attrs.field(factory=list)
    watched: list[float] = attrs.field(factory=list)
    ends: Counter[str] = attrs.field(factory=Counter)
    events: int = 0
    cuts: int = 0
    resyncs: int = 0
    lines: int = 0
    runs: int = 0
    lag: float = 0.0
    cpu: float = 0.0
    ends_at: dict[str, float] = attrs.field(factory=dict)
    faults: list[str] = attrs.field(factory=list)


@attrs.define
class Ran:
    """A run as its student sees it."""

    first: float = 0.0
    said: dict[str, str] = attrs.field(factory=lambda: defaultdict(str))
    seen: Counter[str] = attrs.field(factory=Counter)
    value: str = ""
    end: dict[str, Any] | None = None
    ended: asyncio.Event = attrs.field(factory=asyncio.Event)


class Browser:
    """A client with a stream of events; each is passed to `take`."""

    def __init__(self, url: str, tally: Tally, chance: random.Random, events: str) -> None:
        self.tally, self.chance = tally, chance
        self.is_over = False
        self.reading: asyncio.Event = asyncio.Event()
        self._events, self._seen, self._last = events, "", 0
        self.http = httpx.AsyncClient(
            base_url=url, headers={"Origin": url}, timeout=httpx.Timeout(60),
            limits=httpx.Limits(max_connections=6, max_keepalive_connections=6, keepalive_expiry=60),
        )  # fmt: skip

    def take(self, told: Told) -> None:
        """Handles an event."""
        raise NotImplementedError

    async def read(self) -> None:
        """Reads the stream, and opens it again when it was cut off, until the lesson is over."""
        while not self.is_over:
            with contextlib.suppress(TimeoutError, httpx.HTTPError):
                async with asyncio.timeout(self.chance.uniform(*CUT)):
                    await self._read_once()
            self.tally.cuts += 1
            await asyncio.sleep(self.chance.uniform(0, 0.5))

    async def _read_once(self) -> None:
        headers = {"Last-Event-ID": self._seen} if self._seen else {}
        async with self.http.stream("GET", self._events, headers=headers) as answer:
            if answer.status_code != 200:
                self.tally.faults.append(f"{self._events}: {answer.status_code}")
                return
            rest = b""
            async for data in answer.aiter_raw():
                *pieces, rest = (rest + data).split(b"\n\n")
                for told in filter(None, map(event_of, pieces)):
                    self._take(told)
                if self.is_over:
                    return

    def _take(self, told: Told) -> None:
        self.tally.events += 1
        if told.name == "hello":
            self._seen = self._seen or told.data["event"]
            self.reading.set()
        elif told.name == "resync":
            self.tally.resyncs += 1
            self._seen = ""
        elif told.id:
            boot = told.id.partition("-")[0]
            if boot == self._seen.partition("-")[0] and told.number <= self._last:
                self.tally.faults.append(f"event {told.id} ({told.name}) came twice or late")
            self._seen, self._last = told.id, told.number
        self.take(told)

    async def ask(self, method: str, path: str, body: Any = None, *, want: int = 200) -> Any:
        """Sends a request. Returns the answer, or None when its status is not `want`."""
        began = time.perf_counter()
        answer = await self.http.request(method, path, json=body)
        self.tally.others[path.rpartition("/")[2][:12] if method != "GET" else "get"].append(
            time.perf_counter() - began
        )
        if answer.status_code != want:
            self.tally.faults.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
            return None
        return answer.json() if answer.content else {}


class Student(Browser):
    """A student. phase: returns the phase to which the time of a run belongs."""

    def __init__(
        self, number: int, url: str, tally: Tally, phase: Callable[[], str], teacher: "Teacher | None"
    ) -> None:
        super().__init__(url, tally, random.Random(number), "/api/events")
        self.name, self.seat, self.exercise = f"Student {number}", "", ""
        self._phase, self._teacher = phase, teacher
        self._ran: dict[str, Ran] = defaultdict(Ran)
        self._saves, self._words = itertools.count(), itertools.count()
        self._typed, self._version = "", 0
        self._told: Counter[Any] = Counter()
        self._wanted: Counter[Any] = Counter()

    async def join(self, code: str) -> None:
        """Takes a seat, and opens an exercise."""
        told = await self.ask("POST", "/api/join", {"name": self.name, "code": code}, want=201)
        self.seat = told["seat"]["id"]
        course = (await self.ask("GET", "/api/me"))["course"]
        self.exercise = self.chance.choice(course["exercises"][:5])["id"]
        found = await self.ask("GET", self._path())
        self._main, self._version = found["file"], found["version"]
        await self.ask("POST", "/api/open", {"exercise": self.exercise}, want=204)

    def _path(self, what: str = "") -> str:
        return f"/api/exercises/{self.exercise}{what}"

    def body(self, text: str) -> dict[str, Any]:
        """Returns the body with which a page sends the text of its editor."""
        save = f"{self.seat}-{next(self._saves)}"
        return {"client": "page", "base": self._version, "save": save, "files": {self._main: text}}

    def word(self) -> str:
        """Returns a word that no other program prints."""
        return f"{self.seat}/{next(self._words)}"

    # --- events -------------------------------------------------------------------------------------------------------

    def take(self, told: Told) -> None:
        data = told.data
        if told.name in ("saved", "graded"):
            key = data["version"] if told.name == "saved" else data["handed_in"]["id"]
            self._told[told.name, key] += 1
        if not isinstance(data, dict) or "run" not in data:
            return
        ran = self._ran[data["run"]]
        if ran.end is not None:
            self.tally.faults.append(f"{told.name} after the end of its run")
        ran.seen[told.name] += 1
        if told.name == "out":
            ran.first = ran.first or time.perf_counter()
            ran.said[data["stream"]] += data["text"]
        elif told.name == "value":
            ran.value = data["text"]
        elif told.name == "finished":
            ran.end = data
            ran.ended.set()

    async def _end_of(self, identity: str) -> Ran:
        ran = self._ran[identity]
        try:
            async with asyncio.timeout(PATIENCE):
                await ran.ended.wait()
        except TimeoutError:
            self.tally.faults.append(f"a run of {self.name} has not ended: {dict(ran.seen)}")
        else:
            self.tally.ends[str((ran.end or {})["status"])] += 1
            if ran.seen["run"] != 1:
                self.tally.faults.append(f"a run began {ran.seen['run']} times")
        del self._ran[identity]
        self._ran[identity].end = ran.end  # later events are faults
        return ran

    # --- what a good student does -------------------------------------------------------------------------------------

    async def work(self, until: float) -> None:
        """Works until the lesson is over."""
        does = [self._run] * 11 + [self._prompt] * 2 + [self._complete] * 3 + [self._check, self._raise_hand]
        does += [self._hand_in]
        while time.monotonic() < until:
            for _ in range(self.chance.randrange(3, 7)):
                await self._type()
            await self.chance.choice(does)()

    async def _type(self) -> None:
        await asyncio.sleep(self.chance.uniform(1, 2))
        self._typed = self._typed[-20_000:] + f"# {self.word()} {'so it grows ' * self.chance.randrange(8)}\n"
        await self._save(self._typed)

    async def _save(self, text: str) -> None:
        began = time.perf_counter()
        told = await self.ask("PUT", self._path("/files"), self.body(text))
        if told is None:
            return
        self.tally.saves.append(time.perf_counter() - began)
        self._kept(told["version"])
        if self._teacher is not None:
            self._teacher.expect(self.seat, began, lambda row: row["active"] >= told["at"])
            self._teacher.expect_text(self.seat, began, told["version"])

    def _kept(self, version: int) -> None:
        if version < self._version:
            self.tally.faults.append(f"version {version} after {self._version}")
        self._version = version
        self._wanted["saved", version] += 1

    async def _run(self) -> None:
        program = self.chance.choice(GOOD)(self.word(), self.chance)
        phase, began = self._phase(), time.perf_counter()
        told = await self.ask("POST", self._path("/run"), self.body(program.code + self._typed), want=202)
        if told is None:
            return
        self._kept(told["version"])
        run = self._ran[told["run"]]
        giving = asyncio.create_task(self._give(told["run"], run, program.given))
        ran = await self._end_of(told["run"])
        giving.cancel()
        self.tally.runs += 1
        said, shown = ran.said["stdout"], ran.seen["display"]
        self.tally.lines += program.says.count("\n")
        if said != program.says or shown != program.shows or (ran.end or {}).get("status") != program.status:
            self.tally.faults.append(
                f"{program.code!r}: said {said!r}, not {program.says!r}; pictures {shown}; {ran.end}"
            )
        elif ran.first:
            self.tally.first[phase].append(ran.first - began)

    async def _give(self, identity: str, ran: Ran, texts: tuple[str, ...]) -> None:
        for number, text in enumerate(texts, 1):
            while ran.seen["input"] < number:
                await asyncio.sleep(0.02)
            await asyncio.sleep(self.chance.uniform(0.3, 1))
            await self.ask("POST", "/api/input", {"run": identity, "text": text}, want=204)

    async def _prompt(self) -> None:
        word, number = self.word(), self.chance.randrange(1000)
        code = f"print({word!r})\n{number} * 2"
        told = await self.ask("POST", "/api/repl", {"exercise": self.exercise, "code": code}, want=202)
        if told is not None:
            ran = await self._end_of(told["run"])
            if ran.said["stdout"] != f"{word}\n" or ran.value != str(number * 2):
                self.tally.faults.append(f"{code!r}: {dict(ran.said)} {ran.value!r} {ran.end}")

    async def _complete(self) -> None:
        told = await self.ask("POST", "/api/complete", {"exercise": self.exercise, "code": "pri", "cursor": 3})
        if told is not None and "print" not in " ".join(told["matches"]):
            self.tally.faults.append(f"pri is not completed: {told}")

    async def _check(self) -> None:
        told = await self.ask("POST", self._path("/check"), self.body("print('Hello')\n" + self._typed), want=202)
        if told is not None:
            self._kept(told["version"])
            ran = await self._end_of(told["run"])
            if ran.seen["checked"] != 1:
                self.tally.faults.append(f"a check told its results {ran.seen['checked']} times: {ran.end}")

    async def _raise_hand(self) -> None:
        for up in (True, False):
            began = time.perf_counter()
            told = await self.ask("POST", "/api/hand", {"up": up})
            if told is not None and self._teacher is not None:
                self._teacher.expect(self.seat, began, lambda row, told=told: row["hand"] == told["hand"])
            await asyncio.sleep(self.chance.uniform(1, 3))

    async def _hand_in(self) -> None:
        told = await self.ask("POST", self._path("/hand-in"), self.body("print('Hello')\n"), want=201)
        if told is not None:
            self._version = told["version"]
            for key in [key for key in self._wanted if key[0] == "graded" and not self._told[key]]:
                del self._wanted[key]  # only the latest one of an exercise is graded
            self._wanted["graded", told["handed_in"]["id"]] += 1

    # --- what a hostile one does --------------------------------------------------------------------------------------

    async def attack(self, until: float) -> None:
        """Runs one hostile program after the other until a time."""
        while time.monotonic() < until:
            await asyncio.sleep(self.chance.uniform(0.2, 2))
            code = self.chance.choice(HOSTILE)
            told = await self.ask("POST", self._path("/run"), self.body(code), want=202)
            if told is None:
                continue
            self._version = told["version"]
            stopping = asyncio.create_task(self._stop(told["run"], self.chance.choice((0, 0, 0, 1, 2))))
            ran = await self._end_of(told["run"])
            stopping.cancel()
            status = str((ran.end or {}).get("status"))
            if status in ("overloaded", "internal_error", "ok"):
                self.tally.faults.append(f"{code!r}: {ran.end}")

    async def _stop(self, run: str, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(self.chance.uniform(0.5, 2))
            await self.http.post("/api/stop", json={"run": run})

    # --- the end ------------------------------------------------------------------------------------------------------

    async def wait_for_all(self) -> None:
        """Waits for all expected events, and counts those that are missing or came twice."""
        until = time.monotonic() + PATIENCE
        while self._wanted - self._told and time.monotonic() < until:
            await asyncio.sleep(0.1)
        if lost := self._wanted - self._told:
            self.tally.faults.append(f"{self.name} was not told of {list(lost)[:5]}")
        if twice := [key for key, count in self._told.items() if key in self._wanted and count > self._wanted[key]]:
            self.tally.faults.append(f"{self.name} was told twice of {twice[:5]}")


@attrs.define
class _Expected:
    """An event that the teacher must get. sent: the time of its request."""

    sent: float
    holds: Callable[[dict[str, Any]], bool]


class Teacher(Browser):
    """The teacher, who reads the grid, and watches one student after the other."""

    def __init__(self, url: str, tally: Tally) -> None:
        super().__init__(url, tally, random.Random(0), "/api/teacher/events")
        self._rows: dict[str, deque[tuple[float, dict[str, Any]]]] = defaultdict(lambda: deque(maxlen=30))
        self._expected: dict[str, list[_Expected]] = defaultdict(list)
        self._texts: dict[tuple[str, int], float] = {}
        self._watches, self._since, self._stream = "", 0.0, ""

    async def login(self, key: str) -> None:
        """Logs in with the key."""
        await self.ask("POST", "/api/teacher/login", {"key": key}, want=204)

    def take(self, told: Told) -> None:
        now = time.perf_counter()
        if told.name == "hello":
            self._stream, self._watches = told.data["stream"], ""
        elif told.name == "row":
            row = told.data
            self._rows[row["id"]].append((now, row))
            left = []
            for expected in self._expected[row["id"]]:
                if expected.holds(row):
                    self.tally.grid.append(now - expected.sent)
                else:
                    left.append(expected)
            self._expected[row["id"]] = left
        elif told.name == "watched" and told.data["event"] == "text":
            self._texts[told.data["seat"], told.data["data"]["version"]] = now

    def expect(self, seat: str, sent: float, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Measures the time until a row meets a condition; the row may have come already."""
        for at, row in self._rows[seat]:
            if at >= sent and holds(row):
                self.tally.grid.append(at - sent)
                return
        self._expected[seat].append(_Expected(sent, holds))

    def expect_text(self, seat: str, sent: float, version: int) -> None:
        """Measures the time of a watched seat's text, which comes before the answer to the save."""
        if seat == self._watches and self._since < sent:
            at = self._texts.get((seat, version))
            if at is not None:
                self.tally.watched.append(at - sent)

    async def look(self, until: float, seats: Callable[[], list[str]]) -> None:
        """Watches one seat after the other."""
        await self.ask("GET", "/api/teacher/state")
        while time.monotonic() < until:
            await asyncio.sleep(self.chance.uniform(2, 5))
            seat = self.chance.choice(seats())
            answer = await self.http.post("/api/teacher/watch", json={"stream": self._stream, "seat": seat})
            if answer.status_code == 204:
                self._watches, self._since = seat, time.perf_counter()
            await self.ask("GET", f"/api/teacher/seats/{seat}")
            await self.ask("GET", "/api/teacher/errors")

    async def wait_for_all(self) -> None:
        """Waits for the expected rows, and counts those that are missing."""
        until = time.monotonic() + 10
        while any(self._expected.values()) and time.monotonic() < until:
            await asyncio.sleep(0.1)
        for seat, left in self._expected.items():
            if left:
                self.tally.faults.append(f"the grid has not shown {len(left)} things of {seat}")


# --- a lesson ---------------------------------------------------------------------------------------------------------


def phases(seconds: float) -> Iterator[tuple[str, float]]:
    """Yields the phases of a lesson and their ends: no hostile students, a third, all, and a third again."""
    for name, share in (("quiet", 0.2), ("hostile", 0.6), ("storm", 0.8), ("after", 1.0)):
        yield name, seconds * share


def lesson(url: str, code: str, key: str, students: int, seconds: float) -> Tally:
    """Holds a lesson in this process, and returns its counts."""
    return asyncio.run(_lesson(url, code, key, students, seconds))


async def _lesson(url: str, code: str, key: str, students: int, seconds: float) -> Tally:
    tally, started = Tally(), time.monotonic()
    ends = tally.ends_at = {name: started + end for name, end in phases(seconds)}

    def phase() -> str:
        return next((name for name, end in ends.items() if time.monotonic() < end), "after")

    teacher = Teacher(url, tally)
    await teacher.login(key)
    all_of_them = [Student(number, url, tally, phase, teacher) for number in range(students)]
    good, hostile = all_of_them[students // 3 :], all_of_them[: students // 3]
    storm = [Student(1000 + number, url, tally, phase, None) for number in range(students - students // 3)]
    reading = [asyncio.create_task(teacher.read())]
    await teacher.reading.wait()
    lag = asyncio.create_task(_lag(tally))

    async def come(student: Student) -> None:
        await asyncio.sleep(student.chance.uniform(0, 3))
        await student.join(code)
        reading.append(asyncio.create_task(student.read()))
        await student.reading.wait()

    async def be_hostile(student: Student, begins: str, until: float) -> None:
        await asyncio.sleep(ends[begins] - time.monotonic())
        if not student.seat:
            await come(student)
        await student.attack(until)

    await asyncio.gather(*map(come, all_of_them))
    await asyncio.gather(
        *(student.work(ends["after"]) for student in good),
        *(be_hostile(student, "quiet", ends["after"]) for student in hostile),
        *(be_hostile(student, "hostile", ends["storm"]) for student in storm),
        teacher.look(ends["after"], lambda: [student.seat for student in good]),
    )
    await asyncio.gather(*(student.wait_for_all() for student in good), teacher.wait_for_all())
    for browser in (teacher, *all_of_them, *storm):
        browser.is_over = True
    for task in (*reading, lag):
        task.cancel()
    await asyncio.gather(*reading, lag, return_exceptions=True)
    for browser in (teacher, *all_of_them, *storm):
        await browser.http.aclose()
    tally.cpu = time.process_time() / (time.monotonic() - started)
    return attrs.evolve(tally, first=dict(tally.first), others=dict(tally.others))


async def _lag(tally: Tally) -> None:
    """Measures the delays of this process's event loop."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.05)
        tally.lag = max(tally.lag, time.perf_counter() - began - 0.05)

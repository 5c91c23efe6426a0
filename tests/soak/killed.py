"""A lesson whose server is killed again and again: what have students lost then?

After each kill, before the server is started again, its database is read: everything that was answered must be there.
Clients behave like the page: they store what was not answered, and send it again with the same id.
"""

import asyncio
import contextlib
import itertools
import json
import random
import shutil
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import httpx

from proxybox.controller import hostproc
from tests.classroom.listening import Classroom, classroom, event_of
from tests.soak.classroom import course
from tests.soak.serving import family

KILLS = 50
#: Seconds after which a text must be in the database.
OLDEST = 3.0


@attrs.define
class Count:
    """The counts of a lesson. oldest: the age of the oldest text that was not in the database at a kill."""

    saves: int = 0
    again: int = 0
    hand_ins: int = 0
    runs: int = 0
    oldest: float = 0.0
    left_behind: int = 0
    starts: list[float] = attrs.field(factory=list)
    faults: list[str] = attrs.field(factory=list)


class Server:
    """A classroom that is killed, and started again at the same port with the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._running = folder, contextlib.ExitStack()
        self._course = course(folder / "course")
        self.here: Classroom
        self.since = 0.0

    def start(self, port: int = 0) -> float:
        """Starts the classroom, and returns the seconds that this took."""
        began = time.monotonic()
        self.here = self._running.enter_context(classroom(self.folder / "data", self._course, port=port))
        self.since = time.monotonic()
        return self.since - began

    def kill(self, all_of_it: bool) -> float:
        """Kills the classroom, and returns the time of the kill."""
        killed = time.monotonic()
        self.here.kill(all_of_it=all_of_it)
        self._running.close()
        return killed

    def close(self) -> None:
        """Ends the classroom, as a teacher does."""
        self._running.close()

    def kept(self) -> tuple[dict[str, str], Counter[tuple[str, str]], set[str]]:
        """Returns the latest text of each seat in the database, the hand-ins by seat and save, and their ids."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in (self.folder / "data").glob("classroom.sqlite*"):
            shutil.copy(file, copy)
        with contextlib.closing(sqlite3.connect(copy / "classroom.sqlite")) as database:
            texts = database.execute("select seat, files from texts order by version").fetchall()
            handed = database.execute("select id, seat, save from handins").fetchall()
            (sound,) = database.execute("pragma integrity_check").fetchone()
        assert sound == "ok", sound
        return dict(texts), Counter((seat, save) for _, seat, save in handed), {identity for identity, *_ in handed}


class Patient:
    """A student whose page stores what was not answered, and sends it again."""

    def __init__(self, number: int, server: Server, count: Count) -> None:
        self._chance, self._server, self._count = random.Random(number), server, count
        self._name, self._numbers = f"Student {number}", itertools.count()
        self.seat, self.exercise, self._main, self._version = "", "", "", 0
        self.typed: dict[int, float] = {}
        self.answered = 0
        self.handed_in: list[str] = []
        self.handing: set[str] = set()
        url = server.here.url
        self._http = httpx.AsyncClient(base_url=url, headers={"Origin": url}, timeout=20)

    async def join(self) -> None:
        """Takes a seat."""
        seen = await self._sure("POST", "/api/join", {"name": self._name, "code": self._server.here.code})
        self.seat = seen["seat"]["id"]
        self.exercise = self._chance.choice((await self._sure("GET", "/api/me"))["course"]["exercises"][:3])["id"]
        self._main = (await self._sure("GET", f"/api/exercises/{self.exercise}"))["file"]

    async def _sure(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request until there is an answer, with the same body each time."""
        while True:
            try:
                answer = await self._http.request(method, path, json=body)
                if answer.status_code < 500:
                    break
            except httpx.HTTPError:
                pass
            self._count.again += 1
            await asyncio.sleep(0.3)
        if answer.status_code >= 300 and answer.status_code not in (409, 423):
            self._count.faults.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            return None
        return answer.json() if answer.content else {}

    async def go_on(self, over: asyncio.Event) -> None:
        """Types, hands in, and runs, until `over` is set."""
        watching = asyncio.create_task(self._watch(over))
        while not over.is_set():
            await asyncio.sleep(self._chance.uniform(1, 2))
            number = next(self._numbers) + 1
            self.typed[number] = time.monotonic()
            more = "# more\n" * self._chance.randrange(200)
            body = {
                "client": "page", "base": self._version, "save": f"{self.seat}-{number}",
                "files": {self._main: f"# {number}\nprint({number})\n{more}"},
            }  # fmt: skip
            does = self._chance.random()
            if does < 0.05 and len(self.handed_in) < 40:
                await self._hand_in(body)
            elif does < 0.2:
                await self._run(body)
            else:
                await self._sure("PUT", f"/api/exercises/{self.exercise}/files", body)
            seen = await self._sure("GET", f"/api/exercises/{self.exercise}")
            if number_in(seen["files"][self._main]) != number or seen["version"] < self._version:
                self._count.faults.append(f"{self._name}: {seen['files'][self._main][:50]!r} in place of {number}")
            self._version, self.answered = seen["version"], number
            self._count.saves += 1
        watching.cancel()

    async def _hand_in(self, body: dict[str, Any]) -> None:
        self.handing.add(body["save"])
        seen = await self._sure("POST", f"/api/exercises/{self.exercise}/hand-in", body)
        if seen is not None:
            self.handed_in.append(seen["handed_in"]["id"])
            self._count.hand_ins += 1

    async def _run(self, body: dict[str, Any]) -> None:
        """Saves and runs. A run that was not answered is not repeated, but its text is saved."""
        with contextlib.suppress(httpx.HTTPError):
            answer = await self._http.post(f"/api/exercises/{self.exercise}/run", json=body)
            if answer.status_code == 202:
                self._count.runs += 1
                return
        await self._sure("PUT", f"/api/exercises/{self.exercise}/files", body)

    async def _watch(self, over: asyncio.Event) -> None:
        """Reads events. When the stream is opened again, the seat must be the same."""
        while not over.is_set():
            with contextlib.suppress(httpx.HTTPError):
                async with self._http.stream("GET", "/api/events", timeout=60) as answer:
                    if answer.status_code == 200:
                        me = await self._sure("GET", "/api/me")
                        if me is None or me["seat"]["id"] != self.seat:
                            self._count.faults.append(f"{self._name} has lost its seat: {me}")
                        async for piece in answer.aiter_raw():
                            event_of(piece.partition(b"\n\n")[0])
                    elif answer.status_code < 500:
                        self._count.faults.append(f"{self._name} may not read events: {answer.status_code}")
            await asyncio.sleep(self._chance.uniform(0.2, 1))

    def compare(
        self, kept: tuple[dict[str, str], Counter[tuple[str, str]], set[str]], killed: float, up: float
    ) -> None:
        """Compares a database with the answers. killed: the time of the kill; up: since when the server was running."""
        texts, hand_ins, ids = kept
        number = number_in(json.loads(texts[self.seat])[self._main]) if self.seat in texts else 0
        if number < self.answered:
            self._count.faults.append(f"{self._name}: {number} is kept, {self.answered} was answered")
        for late, typed in self.typed.items():
            if late > number and typed < killed:
                self._count.oldest = max(self._count.oldest, killed - max(typed, up))
        if lost := set(self.handed_in) - ids:
            self._count.faults.append(f"{self._name}: hand-ins are lost: {lost}")
        if twice := [save for (seat, save), count in hand_ins.items() if seat == self.seat and count > 1]:
            self._count.faults.append(f"{self._name}: hand-ins are kept twice: {twice}")
        if strange := {save for seat, save in hand_ins if seat == self.seat} - self.handing:
            self._count.faults.append(f"{self._name}: hand-ins of nobody: {strange}")


def number_in(text: str) -> int:
    """Returns the number in a text; 0 for the starter."""
    word, _, number = text.partition("\n")[0].partition(" ")
    return int(number) if word == "#" and number.isdecimal() else 0


def _is_left(pid: int) -> bool:
    """Returns whether a process still runs: an ended one may be a zombie until its new parent waits for it."""
    try:
        return hostproc.state(pid) not in "ZX"
    except (OSError, ValueError):
        return False


async def kill(students: int, folder: Path) -> int:
    """Holds a lesson, kills its server again and again, prints the results, and returns the exit status."""
    count, server, chance, over = Count(), Server(folder), random.Random(7), asyncio.Event()
    count.starts.append(await asyncio.to_thread(server.start))
    began, port, code = time.monotonic(), server.here.port, server.here.code
    all_of_them = [Patient(number, server, count) for number in range(students)]
    await asyncio.gather(*(student.join() for student in all_of_them))
    teacher = httpx.AsyncClient(base_url=server.here.url, headers={"Origin": server.here.url}, timeout=20)
    await teacher.post("/api/teacher/login", json={"key": server.here.key})
    work = [asyncio.create_task(student.go_on(over)) for student in all_of_them]
    try:
        for number in range(KILLS):
            await asyncio.sleep(chance.uniform(0.2, 6))
            below = list(family(server.here.process.pid))
            killed = await asyncio.to_thread(server.kill, bool(number % 2))
            kept = await asyncio.to_thread(server.kept)
            await asyncio.sleep(0.2)  # answers that were sent before the kill have arrived
            for student in all_of_them:
                student.compare(kept, killed, server.since)
            count.starts.append(await asyncio.to_thread(server.start, port))
            count.left_behind += sum(map(_is_left, below))
            state = await teacher.get("/api/teacher/state")
            if state.status_code != 200 or len(state.json()["seats"]) != students or server.here.code != code:
                count.faults.append(f"the teacher's page: {state.status_code} {state.text[:200]}")
        over.set()
        await asyncio.gather(*work)
        killed = time.monotonic()
        await asyncio.to_thread(server.kill, True)
        kept = await asyncio.to_thread(server.kept)
        for student in all_of_them:
            student.compare(kept, killed, server.since)
    finally:
        over.set()
        server.close()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    print(f"{students} students, {time.monotonic() - began:.0f} s; {KILLS} kills, each second one of all processes")
    print(
        f"{count.saves:,} texts, {count.hand_ins} hand-ins and {count.runs} runs were answered; {count.again:,} tries"
    )
    print(f"the oldest text that was not kept: {count.oldest:.2f} s (mark: {OLDEST:g} s)")
    print(
        f"a start took {min(count.starts):.1f} to {max(count.starts):.1f} s; processes left behind: {count.left_behind}"
    )
    print(f"faults: {len(count.faults)}")
    for fault in count.faults[:20]:
        print("  ", fault)
    return 1 if count.faults or count.oldest > OLDEST or count.left_behind else 0

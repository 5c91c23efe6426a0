"""From readings to a summary, by way of a small database."""

import sqlite3
from decimal import Decimal
from typing import NamedTuple


class Summary(NamedTuple):
    name: str
    lowest: Decimal
    mean: Decimal
    highest: Decimal
    warmest: str

    def as_dict(self) -> dict[str, str]:
        return {key: str(value) for key, value in self._asdict().items()}

    def __str__(self) -> str:
        return f"{self.name:<12} {self.lowest:>6} {self.mean:>6} {self.highest:>6}  {self.warmest}"


def summarise(name, readings) -> Summary:
    with sqlite3.connect(":memory:") as database:
        database.execute("create table reading (at text, celsius real)")
        database.executemany(
            "insert into reading values (?, ?)",
            [(reading.at.isoformat(), float(reading.celsius)) for reading in readings],
        )
        (warmest,) = database.execute("select date(at) from reading order by celsius desc, at limit 1").fetchone()
    database.close()
    degrees = [reading.celsius for reading in readings]
    mean = (sum(degrees) / len(degrees)).quantize(Decimal("0.1"))
    return Summary(name, min(degrees), mean, max(degrees), warmest)

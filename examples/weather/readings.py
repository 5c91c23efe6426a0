"""Reading the data files."""

import csv
import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple


class Reading(NamedTuple):
    station: str
    at: datetime.datetime
    celsius: Decimal


def load_stations(path: Path) -> dict[str, str]:
    """Names by code."""
    return {station["code"]: station["name"] for station in json.loads(path.read_text())}


def load_readings(path: Path) -> list[Reading]:
    with path.open(newline="") as file:
        return [
            Reading(
                row["station"],
                datetime.datetime.fromisoformat(row["at"]),
                Decimal(row["celsius"]),
            )
            for row in csv.DictReader(file)
        ]

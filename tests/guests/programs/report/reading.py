"""Reads the data that the shop exports."""

import csv
import datetime
import decimal
import json
import os
import re

CODE = re.compile(r"^(?P<shop>[A-Z]{2})-(?P<number>\d{4})$")


class BadLine(ValueError):
    pass


def sales(folder, since):
    start = datetime.date.fromisoformat(since)
    with open(os.path.join(folder, "sales.csv"), newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            match = CODE.match(row["code"])
            if not match:
                raise BadLine(f"line {number}: {row['code']!r} is no code")
            day = datetime.date.fromisoformat(row["day"])
            if day >= start:
                yield match["shop"], day, decimal.Decimal(row["amount"]), row["currency"], row["what"]


def rates(folder):
    with open(os.path.join(folder, "rates.json"), encoding="utf-8") as file:
        return {name: decimal.Decimal(value) for name, value in json.load(file).items()}

"""Reads a table and adds a column up."""

import csv
import os
import sys

with open(os.path.join(sys.argv[1], "sales.csv"), newline="") as file:
    total = sum(int(row["amount"]) for row in csv.DictReader(file))
print("total", total)
assert total == 42

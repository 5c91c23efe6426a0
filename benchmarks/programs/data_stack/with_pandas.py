"""A table from CSV, in groups."""

import io

import pandas

table = pandas.read_csv(io.StringIO("city,n\nA,1\nB,2\nA,3\n"))
sums = table.groupby("city").n.sum()
print(sums.to_dict(), table.describe().n["mean"])
table.to_csv("table.csv")

"""Programs that work on tables, with NumPy, pandas and matplotlib. They find their inputs at /data."""

from pathlib import Path

#: The packages that they need, by the names of their distributions.
WANTED = ("numpy", "pandas")

PROGRAMS = {
    "csv in and out": """
import pandas as pd
table = pd.read_csv("/data/sales.csv", parse_dates=["day"])
table["total"] = table["n"] * table["price"]
table.to_csv("totals.csv", index=False)
print(table.head(), table.dtypes, table.describe(include="all"))
print(pd.read_csv("totals.csv").equals(pd.read_csv("totals.csv")), table.memory_usage(deep=True).sum())
""",
    "groups": """
import pandas as pd
table = pd.read_csv("/data/sales.csv")
print(table.groupby("city").agg({"n": ["sum", "mean"], "price": "max"}))
print(table.groupby(["city", "kind"], sort=False)["n"].transform("cumsum").tail())
print(table.groupby("kind").apply(lambda part: part.nlargest(2, "price")["n"].sum()))
""",
    "merges": """
import pandas as pd
sales, cities = pd.read_csv("/data/sales.csv"), pd.read_csv("/data/cities.csv")
print(sales.merge(cities, on="city", how="outer", indicator=True).value_counts("_merge"))
print(sales.join(cities.set_index("city"), on="city").sort_values(["people", "n"]).iloc[:5])
print(pd.concat([sales, sales.sample(5)]).drop_duplicates().shape)
""",
    "times and zones": """
import pandas as pd
now = pd.Timestamp.now("Europe/Berlin")
print(now, now.tz_convert("Asia/Tokyo"), pd.Timestamp.now(), now.floor("h"))
days = pd.date_range("2026-03-28", periods=4, freq="12h", tz="Europe/Berlin")
print(days, days.tz_convert("UTC"), pd.Series(range(4), index=days).resample("D").sum())
print(pd.to_datetime(pd.Series(["2026-01-02", "x"]), errors="coerce"), pd.Timedelta("3h") / pd.Timedelta("7min"))
""",
    "random numbers": """
import numpy as np, pandas as pd
print(np.random.default_rng(7).normal(size=3), np.random.default_rng().normal(size=3))
np.random.seed(5); print(np.random.rand(2)); np.random.seed(); print(np.random.rand(2), np.random.permutation(9))
print(pd.DataFrame({"a": range(100)}).sample(5), pd.Series(range(9)).sample(3, random_state=1).tolist())
""",
    "linear algebra": """
import numpy as np
a = np.random.default_rng().normal(size=(120, 120))
values, vectors = np.linalg.eigh(a @ a.T)
print(values[:3], np.abs(vectors).sum(), np.linalg.det(a), np.linalg.solve(a, np.ones(120))[:3])
u, s, v = np.linalg.svd(a); print(s[:3], np.allclose(u * s @ v, a), np.linalg.qr(a)[1][0, :2])
print(np.fft.fft(a[0])[:2], np.einsum("ij,jk->", a, a), a.sum(), a.std())
""",
    "strings": """
import pandas as pd
names = pd.read_csv("/data/sales.csv")["city"]
print(names.str.upper().str.replace("[AEIOU]", "_", regex=True).unique(), names.str.len().sum())
print(names.str.extract(r"(?P<first>.)(?P<rest>.*)").drop_duplicates(), names.astype("category").cat.codes.sum())
print(names.str.cat(sep="|")[:60], names.str.get_dummies().sum(), set(names))
""",
    "pivots": """
import pandas as pd
table = pd.read_csv("/data/sales.csv")
wide = table.pivot_table(index="city", columns="kind", values="n", aggfunc="sum", margins=True)
print(wide, wide.stack(), wide.reset_index().melt(id_vars="city").shape)
print(pd.crosstab(table["city"], table["kind"], normalize=True), table.corr(numeric_only=True))
""",
    "a database": """
import sqlite3
import pandas as pd
with sqlite3.connect("/tmp/sales.db") as database:
    pd.read_csv("/data/sales.csv").to_sql("sales", database, index=False)
    print(pd.read_sql("select city, sum(n) as n, random() as r from sales group by city", database))
    print(pd.read_sql("select count(*) from sales where kind = ?", database, params=["tea"]))
""",
    "many files": """
import glob
import pandas as pd
parts = [pd.read_csv(path).assign(path=path) for path in sorted(glob.glob("/data/parts/*.csv"))]
whole = pd.concat(parts, ignore_index=True)
for kind, part in whole.groupby("kind"):
    part.to_json(f"{kind}.jsonl", orient="records", lines=True); part.to_pickle(f"{kind}.pickle")
print(len(parts), whole["n"].sum(), pd.read_pickle("tea.pickle").shape, pd.read_json("tea.jsonl", lines=True).shape)
""",
}
#: Programs that also need matplotlib.
FIGURES = {
    "a figure": """
import hashlib
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
axes = pd.read_csv("/data/sales.csv").plot.scatter("n", "price", title="Sales")
axes.figure.savefig("sales.png"); axes.figure.savefig("sales.svg"); plt.close("all")
print(*(hashlib.sha256(open(name, "rb").read()).hexdigest() for name in ("sales.png", "sales.svg")))
""",
}


def make_inputs(folder: Path) -> None:
    """Writes the input files of the programs."""
    cities, kinds = ("Aachen", "Bonn", "Celle", "Düren"), ("tea", "coffee", "milk")
    rows = [
        f"{cities[n % 4]},{kinds[n * 7 % 3]},{n * 37 % 23},{n * 11 % 97 / 10},2026-{n % 12 + 1:02}-{n % 28 + 1:02}"
        for n in range(200)
    ]
    head = "city,kind,n,price,day"
    (folder / "sales.csv").write_text("\n".join([head, *rows]) + "\n")
    (folder / "cities.csv").write_text("city,people\nAachen,249\nBonn,330\nCelle,70\nEmden,50\n")
    (folder / "parts").mkdir()
    for at in range(40):
        (folder / "parts" / f"{at:02}.csv").write_text("\n".join([head, *rows[at * 5 : at * 5 + 5]]) + "\n")

"""A lazy query: Rayon."""

import polars

table = polars.DataFrame({"city": ["A", "B", "A"], "n": [1, 2, 3]})
print(table.lazy().group_by("city").agg(polars.col("n").sum()).sort("city").collect().rows())

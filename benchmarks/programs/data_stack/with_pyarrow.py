"""A table to Parquet and back."""

import pyarrow
import pyarrow.compute
import pyarrow.parquet

table = pyarrow.table({"n": [1, 2, 3]})
pyarrow.parquet.write_table(table, "table.parquet")
print(pyarrow.compute.sum(pyarrow.parquet.read_table("table.parquet")["n"]))

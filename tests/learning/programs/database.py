"""Changes a database that exists."""

import os
import sqlite3
import sys

with sqlite3.connect(os.path.join(sys.argv[1], "db", "shop.db")) as shop:
    shop.execute("insert into items values ('tea', 3)")
    rows = shop.execute("select name, price from items order by price").fetchall()
print(rows)
assert rows == [("tea", 3), ("cake", 5)]

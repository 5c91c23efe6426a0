"""A database in a file."""

import sqlite3

base = sqlite3.connect("cities.db")
base.execute("create table city (name, people)")
base.execute("insert into city values ('A', 3)")
base.commit()
print(base.execute("select * from city").fetchall())

"""Keeps sales in SQLite."""

import contextlib
import sqlite3


class Store:
    def __init__(self, path):
        self.connection = sqlite3.connect(path)
        self.mode = self.connection.execute("pragma journal_mode=wal").fetchone()[0]
        with self.connection:
            self.connection.execute("create table sale (shop text, day text, cents integer, what text)")
            self.connection.execute("create index by_shop on sale (shop, day)")

    def add(self, rows):
        with self.connection:
            self.connection.executemany("insert into sale values (?, ?, ?, ?)", rows)

    def fail(self):
        """A transaction that is rolled back."""
        with contextlib.suppress(sqlite3.IntegrityError), self.connection:
            self.connection.execute("insert into sale values ('XX', '2024-01-01', 1, 'lost')")
            raise sqlite3.IntegrityError("no")

    def totals(self):
        return self.connection.execute(
            "select shop, count(*), sum(cents) from sale group by shop order by sum(cents) desc, shop"
        ).fetchall()

    def close(self):
        self.connection.close()

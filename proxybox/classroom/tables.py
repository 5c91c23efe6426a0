"""The tables of a class's database, and the steps that upgrade an older database to them."""

from typing import Final

import sqlalchemy as sql

from proxybox.serve.database import LongUntrustedText, Step, UntrustedText

TABLES: Final = sql.MetaData()
FACTS: Final = sql.Table(
    "facts",
    TABLES,
    sql.Column("key", UntrustedText(64), primary_key=True),
    sql.Column("value", sql.Text, nullable=False),
)
SEATS: Final = sql.Table(
    "seats", TABLES,
    sql.Column("id", UntrustedText(64), primary_key=True),
    sql.Column("name", UntrustedText(64), nullable=False),
    sql.Column("personal", UntrustedText(32), nullable=False),
    sql.Column("generation", sql.Integer, nullable=False),
    sql.Column("joined", sql.Float, nullable=False),
    sql.Column("exercise", UntrustedText(64)),
    sql.Column("hand", sql.Float),
    sql.Column("locked", sql.Boolean, nullable=False),
    sql.Column("removed", sql.Boolean, nullable=False),
    sql.Column("class_id", UntrustedText(64), nullable=False),
)  # fmt: skip
TEXTS: Final = sql.Table(
    "texts", TABLES,
    sql.Column("seat", UntrustedText(64), primary_key=True),
    sql.Column("exercise", UntrustedText(64), primary_key=True),
    sql.Column("version", sql.Integer, primary_key=True),
    sql.Column("begun", sql.Float, nullable=False),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("why", UntrustedText(16), nullable=False),
    sql.Column("save", UntrustedText(64), nullable=False),
    sql.Column("size", sql.Integer, nullable=False),
    sql.Column("files", sql.Text, nullable=False),
)  # fmt: skip
HANDINS: Final = sql.Table(
    "handins", TABLES,
    sql.Column("id", UntrustedText(64), primary_key=True),
    sql.Column("seat", UntrustedText(64), nullable=False, index=True),
    sql.Column("exercise", UntrustedText(64), nullable=False),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("late", sql.Boolean, nullable=False),
    sql.Column("save", UntrustedText(64), nullable=False),
    sql.Column("files", sql.Text, nullable=False),
    sql.Column("grade", sql.Text),
    sql.Column("graded", sql.Float),
    sql.Column("basis", UntrustedText(64)),
    sql.Column("earlier", sql.Text),
    sql.Column("due", sql.Boolean, nullable=False, index=True),
)  # fmt: skip
RESULTS: Final = sql.Table(
    "results", TABLES,
    sql.Column("seat", UntrustedText(64), primary_key=True),
    sql.Column("exercise", UntrustedText(64), primary_key=True),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("grade", sql.Text, nullable=False),
    sql.Column("basis", UntrustedText(64)),
)  # fmt: skip
HINTS: Final = sql.Table(
    "hints", TABLES,
    sql.Column("seat", UntrustedText(64), primary_key=True),
    sql.Column("exercise", UntrustedText(64), primary_key=True),
    sql.Column("shown", sql.Integer, nullable=False),
)  # fmt: skip
RUNS: Final = sql.Table(
    "runs", TABLES,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("seat", UntrustedText(64), nullable=False, index=True),
    sql.Column("exercise", UntrustedText(64), nullable=False),
    sql.Column("kind", UntrustedText(16), nullable=False),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False),
    sql.Column("status", UntrustedText(32), nullable=False),
    sql.Column("error", LongUntrustedText, nullable=False),
)  # fmt: skip
SHARES: Final = sql.Table(
    "shares", TABLES,
    sql.Column("id", UntrustedText(64), primary_key=True),
    sql.Column("title", LongUntrustedText, nullable=False),
    sql.Column("exercise", UntrustedText(64), nullable=False),
    sql.Column("by", UntrustedText(16), nullable=False),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("files", sql.Text, nullable=False),
)  # fmt: skip
CLASSES: Final = sql.Table(
    "classes", TABLES,
    sql.Column("id", UntrustedText(64), primary_key=True),
    sql.Column("platform", UntrustedText(2000), nullable=False),
    sql.Column("context", UntrustedText(255), nullable=False),
    sql.Column("title", UntrustedText(255), nullable=False),
)  # fmt: skip
USERS: Final = sql.Table(
    "users", TABLES,
    sql.Column("platform", UntrustedText(2000), primary_key=True),
    sql.Column("context", UntrustedText(255), primary_key=True),
    sql.Column("user", UntrustedText(255), primary_key=True),
    sql.Column("seat", UntrustedText(64), nullable=False),
)  # fmt: skip
LINES: Final = sql.Table(
    "lines", TABLES,
    sql.Column("seat", UntrustedText(64), primary_key=True),
    sql.Column("exercise", UntrustedText(64), primary_key=True),
    sql.Column("platform", UntrustedText(2000), nullable=False),
    sql.Column("user", UntrustedText(255), nullable=False),
    sql.Column("url", LongUntrustedText, nullable=False),
    sql.Column("brought", sql.Text, nullable=False),
)  # fmt: skip


def _to_form_2(connection: sql.Connection) -> None:
    """Adds to grades their tests, to seats their class, and to lines the last grade that was sent."""
    for statement in _FORM_2.split(";"):
        connection.exec_driver_sql(statement)


#: Ungraded hand-ins become due: only the latest one of each seat and exercise. It is not known which grades a platform
#: has already: they are sent again, which changes nothing there.
_FORM_2: Final = """
ALTER TABLE seats ADD COLUMN class_id VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE results ADD COLUMN basis VARCHAR(64);
ALTER TABLE handins ADD COLUMN graded FLOAT;
ALTER TABLE handins ADD COLUMN basis VARCHAR(64);
ALTER TABLE handins ADD COLUMN earlier TEXT;
ALTER TABLE handins ADD COLUMN due BOOLEAN NOT NULL DEFAULT 0;
UPDATE handins SET due = 1 WHERE grade IS NULL AND at = (
    SELECT max(other.at) FROM handins AS other WHERE other.seat = handins.seat AND other.exercise = handins.exercise
);
CREATE INDEX ix_handins_due ON handins (due);
ALTER TABLE users RENAME TO users_1;
CREATE TABLE users (
    platform VARCHAR(2000) NOT NULL, context VARCHAR(255) NOT NULL, user VARCHAR(255) NOT NULL,
    seat VARCHAR(64) NOT NULL, PRIMARY KEY (platform, context, user)
);
INSERT INTO users SELECT platform, '', user, seat FROM users_1;
DROP TABLE users_1;
ALTER TABLE lines RENAME TO lines_1;
CREATE TABLE lines (
    seat VARCHAR(64) NOT NULL, exercise VARCHAR(64) NOT NULL, platform VARCHAR(2000) NOT NULL,
    user VARCHAR(255) NOT NULL, url TEXT NOT NULL, brought TEXT NOT NULL, PRIMARY KEY (seat, exercise)
);
INSERT INTO lines SELECT seat, exercise, platform, user, url, '' FROM lines_1;
DROP TABLE lines_1
"""

#: The steps that upgrade a database to these tables: the first leads from form 1 to form 2 (database.py).
STEPS: Final[tuple[Step, ...]] = (_to_form_2,)

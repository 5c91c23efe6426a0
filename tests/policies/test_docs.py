"""docs/policies.md agrees with the declarations."""

from tools import policytables


def test_the_tables_are_those_of_the_declarations():
    text = policytables.PAGE.read_text()
    assert text == policytables.page(text), "its tables are stale: make policies"

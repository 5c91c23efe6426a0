"""TOML of strangers: texts that would take long, or exceed Python's stack."""

import pytest

from proxybox.policies import toml
from proxybox.policies.toml import _LONG_KEY

LONG = {
    "dots": "a." * 500_000 + "a = 1",
    "dots with spaces": "a . " * 250_000 + "a = 1",
    "quoted": '"a".' * 200_000 + "a = 1",
    "literal": "'a'." * 200_000 + "a = 1",
    "a table": "[" + "a." * 500_000 + "a]",
    "within a table": "x = {" + "a." * 500_000 + "a = 1}",
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.timeout(20)
def test_a_key_of_many_parts(name: str) -> None:
    """tomllib takes hours for these."""
    with pytest.raises(ValueError, match="a key of more than 256 parts"):
        toml.loads(LONG[name])


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "{a=" * 5000])
def test_what_is_nested_too_deeply(text: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        toml.loads(text)


def test_what_people_write() -> None:
    text = (
        f"a.\"b.c\" . 'd' = '{'.'.join('x' * 60)}'\nf = [{'1.5, ' * 1000}]\nv = '{'1.2. ' * 100}'\ne = '{'.' * 1000}'"
    )
    assert toml.loads(text)["a"]["b.c"]["d"] == ".".join("x" * 60)


@pytest.mark.parametrize(
    "piece",
    ["a", '"', "'", "'\"", '"a', "a.a.a.a\n", " ", "a ", "- ", "a.." + "a." * 250, '"a".' * 250 + "\n", "a\t.\t!"],
)
@pytest.mark.timeout(20)
def test_keys_are_counted_in_linear_time(piece: str) -> None:
    _LONG_KEY.search(piece * ((1 << 20) // len(piece)))

import pytest


def checked(student, width, height, stars, seed):
    """A sky that has what it should have."""
    rows = student.call("sky", width, height, stars, seed)
    told = f"sky({width}, {height}, {stars}, {seed})"
    is_list = isinstance(rows, list) and all(isinstance(row, str) for row in rows)
    assert is_list, f"{told} should return a list of texts, one for each row."
    assert len(rows) == height, f"{told} should have {height} rows, and has {len(rows)}."
    for number, row in enumerate(rows):
        assert len(row) == width, f"{told}: each row should have {width} characters, and row {number} has {len(row)}."
        assert set(row) <= set("*."), f"{told}: row {number} has something else than stars and dots."
    count = sum(row.count("*") for row in rows)
    assert count == stars, f"{told} should have {stars} stars, and has {count}."
    return rows


def test_mountain(student):
    "mountain: a height of 3"
    student.expect("mountain", 3, returns=["  ^  ", " ^^^ ", "^^^^^"])


def test_other_mountains(student):
    "mountain: other heights"
    student.expect("mountain", 1, returns=["^"])
    student.expect("mountain", 5, returns=["    ^    ", "   ^^^   ", "  ^^^^^  ", " ^^^^^^^ ", "^" * 9])


def test_sky(student):
    "sky: its size, and the number of stars"
    checked(student, 12, 3, 4, 1)
    checked(student, 5, 9, 1, 2)


def test_crowded(student):
    "sky: many stars, which must not fall on each other"
    checked(student, 6, 5, 25, 3)
    checked(student, 4, 4, 16, 4)


def test_seed(student):
    "sky: the same seed, the same sky; other seeds, other skies"
    first = checked(student, 20, 10, 30, 5)
    assert checked(student, 20, 10, 30, 5) == first, "Two skies with the same seed should be the same."
    others = [checked(student, 20, 10, 30, seed) for seed in (6, 7, 8)]
    assert any(other != first for other in others), "Skies with other seeds should be others."


@pytest.mark.hidden
def test_everywhere(student):
    "Stars are everywhere, and a sky may have none"
    checked(student, 7, 2, 0, 1)
    skies = [checked(student, 3, 3, 2, seed) for seed in range(60)]
    empty = [(x, y) for x in range(3) for y in range(3) if all(sky[y][x] == "." for sky in skies)]
    assert not empty, "In 60 small skies, some places never have a star."

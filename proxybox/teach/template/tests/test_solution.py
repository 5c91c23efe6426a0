import pytest


def test_example(student):
    "The example"
    student.expect("area", 3, 4, returns=12)


@pytest.mark.points(2)
def test_others(student):
    "Other rectangles"
    student.expect("area", 1, 1, returns=1)
    student.expect("area", 0.5, 3, returns=1.5, tolerance=1e-9)


@pytest.mark.hidden
def test_nothing(student):
    "Without width or height"
    student.expect("area", 0, 5, returns=0)

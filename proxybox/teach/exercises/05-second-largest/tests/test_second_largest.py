import pytest


def test_example(student):
    "The example"
    student.expect("second_largest", [5, 3, 5], returns=3)


def test_order(student):
    "In whatever order they come"
    student.expect("second_largest", [1, 2, 3, 4], returns=3)
    student.expect("second_largest", [4, 3, 2, 1], returns=3)
    student.expect("second_largest", [2, 4, 1, 3], returns=3)
    student.expect("second_largest", [10, 70, 40], returns=40)


@pytest.mark.points(2)
def test_negative(student):
    "Negative numbers"
    student.expect("second_largest", [-4, -2, -9], returns=-4)


def test_too_few(student):
    "Too few numbers"
    student.raises("ValueError", "second_largest", [])
    student.raises("ValueError", "second_largest", [7])
    student.raises("ValueError", "second_largest", [7, 7, 7])


@pytest.mark.hidden
@pytest.mark.timeout(2)
def test_long(student):
    "A long list"
    student.expect("second_largest", [number * 37 % 1009 for number in range(1009)], returns=1007)

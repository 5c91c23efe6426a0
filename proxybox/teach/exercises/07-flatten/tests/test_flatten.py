import pytest


def test_example(student):
    "The example"
    student.expect("flatten", [1, [2, [3, 4]], [], 5], returns=[1, 2, 3, 4, 5])


def test_flat(student):
    "A list that is flat already"
    student.expect("flatten", [3, 1, 2], returns=[3, 1, 2])


def test_empty(student):
    "Empty lists"
    student.expect("flatten", [], returns=[])
    student.expect("flatten", [[], [[]]], returns=[])


@pytest.mark.points(2)
def test_deep(student):
    "Ten lists in each other"
    nested = [0]
    for number in range(1, 10):
        nested = [nested, number]
    student.expect("flatten", nested, returns=list(range(10)))


@pytest.mark.hidden
@pytest.mark.timeout(2)
def test_fractions(student):
    "Numbers with fractions"
    student.expect("flatten", [0.5, [[1.5], 2]], returns=[0.5, 1.5, 2])

import pytest


def test_average(student):
    "average: some jumps"
    student.expect("average", [120, 95, 131], returns=115.333333333, tolerance=1e-6)
    student.expect("average", [100], returns=100.0, tolerance=1e-6)


def test_no_jumps(student):
    "average: no jumps at all"
    assert student.call("average", []) == 0, "For an empty list, average should return 0."


def test_passed(student):
    "passed: some are high enough"
    student.expect("passed", [120, 95, 131], 120, returns=[120, 131])
    student.expect("passed", [90, 140, 80, 150], 100, returns=[140, 150])


def test_all_or_none(student):
    "passed: all of them, none of them"
    student.expect("passed", [120, 95], 90, returns=[120, 95])
    student.expect("passed", [120, 95], 150, returns=[])


def test_without_worst(student):
    "without_worst: the others stay in their order"
    student.expect("without_worst", [120, 95, 131], returns=[120, 131])
    student.expect("without_worst", [131, 120, 110, 95], returns=[131, 120, 110])


def test_twice(student):
    "without_worst: the lowest one is there twice"
    student.expect("without_worst", [95, 120, 95, 100], returns=[120, 95, 100])


@pytest.mark.hidden
def test_unchanged(student):
    "The list that was given stays as it is"
    jumps = student.new("passed", [3, 1, 2], 0)
    student.call("without_worst", jumps)
    assert jumps.call("copy") == [3, 1, 2], "without_worst should return a new list, and it changes the one it is given."

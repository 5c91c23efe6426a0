import pytest


def test_example(student):
    "The example"
    student.expect("count_words", "The cat and the dog.", returns={"the": 2, "cat": 1, "and": 1, "dog": 1})


def test_marks(student):
    "Marks at the end of words"
    student.expect("count_words", "Stop! Stop, stop?! Go.", returns={"stop": 3, "go": 1})


@pytest.mark.points(2)
def test_white_space(student):
    "Several spaces and lines"
    student.expect("count_words", "  one two\n\ttwo  one\n", returns={"one": 2, "two": 2})


@pytest.mark.hidden
def test_empty(student):
    "No words"
    student.expect("count_words", "", returns={})
    student.expect("count_words", " ... ", returns={})

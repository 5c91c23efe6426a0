import pytest


def test_celsius(student):
    "celsius: 50 and 32 degrees Fahrenheit"
    student.expect("celsius", 50, returns=10.0, tolerance=1e-6)
    student.expect("celsius", 32, returns=0.0, tolerance=1e-6)


def test_fractions(student):
    "celsius: results that are no whole numbers"
    student.expect("celsius", 70, returns=21.1111111, tolerance=1e-6)
    student.expect("celsius", 98.6, returns=37.0, tolerance=1e-6)


def test_words(student):
    "describe: each of the four words"
    student.expect("describe", -5, returns="freezing")
    student.expect("describe", 10, returns="cold")
    student.expect("describe", 20, returns="warm")
    student.expect("describe", 35, returns="hot")


def test_borders(student):
    "describe: exactly at the borders"
    student.expect("describe", 0, returns="freezing")
    student.expect("describe", 15, returns="cold")
    student.expect("describe", 28, returns="warm")


@pytest.mark.hidden
def test_more(student):
    "Cold, and just above the borders"
    student.expect("celsius", -40, returns=-40.0, tolerance=1e-6)
    student.expect("describe", 0.5, returns="cold")
    student.expect("describe", 15.5, returns="warm")
    student.expect("describe", 28.1, returns="hot")

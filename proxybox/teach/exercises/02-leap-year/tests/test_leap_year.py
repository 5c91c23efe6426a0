import pytest


def test_fourth(student):
    "Every fourth year"
    student.expect("is_leap", 2024, returns=True)
    student.expect("is_leap", 1996, returns=True)


def test_others(student):
    "Years between"
    student.expect("is_leap", 2023, returns=False)
    student.expect("is_leap", 2022, returns=False)


@pytest.mark.points(2)
def test_centuries(student):
    "Centuries"
    student.expect("is_leap", 1900, returns=False)
    student.expect("is_leap", 2000, returns=True)


@pytest.mark.hidden
@pytest.mark.points(2)
def test_many(student):
    "A thousand years"
    for year in range(1600, 2600, 7):
        student.expect("is_leap", year, returns=year % 4 == 0 and (year % 100 != 0 or year % 400 == 0))

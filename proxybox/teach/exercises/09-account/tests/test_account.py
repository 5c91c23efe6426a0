import pytest


def test_example(student):
    "The example"
    student.expect("replay", [("deposit", 50), ("withdraw", 20)], returns=[50, 30])


def test_everything(student):
    "All the money can be withdrawn"
    student.expect("replay", [("deposit", 5), ("deposit", 2), ("withdraw", 7)], returns=[5, 7, 0])


def test_too_much(student):
    "More than there is cannot be withdrawn"
    student.raises("ValueError", "replay", [("deposit", 5), ("withdraw", 6)])


def test_not_positive(student):
    "Amounts are positive"
    student.raises("ValueError", "replay", [("deposit", -5)])
    student.raises("ValueError", "replay", [("deposit", 5), ("withdraw", 0)])


@pytest.mark.hidden
@pytest.mark.points(2)
def test_two_accounts(student):
    "Each account has its own balance"
    student.expect("replay", [("deposit", 5)], returns=[5])
    student.expect("replay", [("deposit", 3)], returns=[3])

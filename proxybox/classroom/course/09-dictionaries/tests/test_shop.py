import pytest

PRICES = {"apple": 3, "bread": 12, "milk": 8}


def test_price(student):
    "price_of: things that the shop has"
    student.expect("price_of", "bread", PRICES, returns=12)
    student.expect("price_of", "apple", PRICES, returns=3)


def test_no_price(student):
    "price_of: a thing without a price"
    student.expect("price_of", "cloud", PRICES, returns=0)


def test_count(student):
    "count: how often each thing is there"
    student.expect("count", ["apple", "milk", "apple"], returns={"apple": 2, "milk": 1})
    student.expect("count", ["bread"], returns={"bread": 1})


def test_bill(student):
    "bill: everything together"
    student.expect("bill", ["apple", "milk", "apple"], PRICES, returns=14)
    student.expect("bill", ["bread", "bread", "bread"], PRICES, returns=36)


def test_bill_without_price(student):
    "bill: things without a price cost nothing"
    student.expect("bill", ["cloud", "milk"], PRICES, returns=8)


@pytest.mark.hidden
def test_other_shop(student):
    "Another shop, and empty baskets"
    other = {"pen": 5, "apple": 100}
    student.expect("price_of", "apple", other, returns=100)
    student.expect("bill", ["pen", "apple", "milk"], other, returns=105)
    student.expect("bill", [], other, returns=0)
    student.expect("count", [], returns={})

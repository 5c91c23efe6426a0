def price_of(thing, prices):
    return prices[thing]


def count(basket):
    counts = {}
    return counts


def bill(basket, prices):
    return 0


# Try your functions here.
shop = {"apple": 3, "bread": 12, "milk": 8}
print(price_of("bread", shop))
print(count(["apple", "milk", "apple"]))
print(bill(["apple", "milk", "apple"], shop))

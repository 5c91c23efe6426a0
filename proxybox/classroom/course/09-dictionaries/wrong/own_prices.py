shop = {"apple": 3, "bread": 12, "milk": 8}


def price_of(thing, prices):
    return shop.get(thing, 0)


def count(basket):
    counts = {}
    for thing in basket:
        counts[thing] = counts.get(thing, 0) + 1
    return counts


def bill(basket, prices):
    return sum(price_of(thing, shop) for thing in basket)

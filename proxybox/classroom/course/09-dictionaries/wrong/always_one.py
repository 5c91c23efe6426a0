def price_of(thing, prices):
    return prices.get(thing, 0)


def count(basket):
    counts = {}
    for thing in basket:
        counts[thing] = 1
    return counts


def bill(basket, prices):
    return sum(price_of(thing, prices) for thing in basket)

def price_of(thing, prices):
    return prices.get(thing, 0)


def count(basket):
    counts = {}
    for thing in basket:
        counts[thing] = counts.get(thing, 0) + 1
    return counts


def bill(basket, prices):
    total = 0
    for thing in count(basket):
        total = total + price_of(thing, prices)
    return total

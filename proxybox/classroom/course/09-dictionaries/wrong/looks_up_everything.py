def price_of(thing, prices):
    return prices[thing]


def count(basket):
    counts = {}
    for thing in basket:
        counts[thing] = counts.get(thing, 0) + 1
    return counts


def bill(basket, prices):
    total = 0
    for thing in basket:
        total = total + prices[thing]
    return total

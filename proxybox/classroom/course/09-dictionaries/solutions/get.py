def price_of(thing, prices):
    return prices.get(thing, 0)


def count(basket):
    counts = {}
    for thing in basket:
        counts[thing] = counts.get(thing, 0) + 1
    return counts


def bill(basket, prices):
    counts = count(basket)
    return sum(number * price_of(thing, prices) for thing, number in counts.items())

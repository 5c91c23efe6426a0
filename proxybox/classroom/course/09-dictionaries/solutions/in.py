def price_of(thing, prices):
    if thing in prices:
        return prices[thing]
    return 0


def count(basket):
    counts = {}
    for thing in basket:
        if thing in counts:
            counts[thing] = counts[thing] + 1
        else:
            counts[thing] = 1
    return counts


def bill(basket, prices):
    total = 0
    for thing in basket:
        total = total + price_of(thing, prices)
    return total

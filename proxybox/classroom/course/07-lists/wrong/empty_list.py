def average(heights):
    return sum(heights) / len(heights)


def passed(heights, bar):
    return [height for height in heights if height >= bar]


def without_worst(heights):
    rest = list(heights)
    rest.remove(min(rest))
    return rest

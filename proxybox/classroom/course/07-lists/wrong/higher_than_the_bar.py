def average(heights):
    if len(heights) == 0:
        return 0
    return sum(heights) / len(heights)


def passed(heights, bar):
    return [height for height in heights if height > bar]


def without_worst(heights):
    worst = min(heights)
    return [height for height in heights if height != worst]

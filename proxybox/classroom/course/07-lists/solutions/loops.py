def average(heights):
    if len(heights) == 0:
        return 0
    return sum(heights) / len(heights)


def passed(heights, bar):
    found = []
    for height in heights:
        if height >= bar:
            found.append(height)
    return found


def without_worst(heights):
    rest = []
    worst = min(heights)
    is_out = False
    for height in heights:
        if height == worst and not is_out:
            is_out = True
        else:
            rest.append(height)
    return rest

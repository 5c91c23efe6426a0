def average(heights):
    return 0


def passed(heights, bar):
    found = []
    return found


def without_worst(heights):
    return heights


# Try your functions here.
jumps = [120, 95, 131, 110]
print(average(jumps))
print(passed(jumps, 120))
print(without_worst(jumps))

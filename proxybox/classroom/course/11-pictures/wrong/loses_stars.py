import random


def mountain(height):
    return [("^" * (2 * y + 1)).center(2 * height - 1) for y in range(height)]


def sky(width, height, stars, seed):
    dice = random.Random(seed)
    grid = [["."] * width for y in range(height)]
    for i in range(stars):
        grid[dice.randint(0, height - 1)][dice.randint(0, width - 1)] = "*"
    return ["".join(line) for line in grid]

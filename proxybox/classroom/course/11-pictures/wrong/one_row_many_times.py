import random


def mountain(height):
    return [("^" * (2 * y + 1)).center(2 * height - 1) for y in range(height)]


def sky(width, height, stars, seed):
    dice = random.Random(seed)
    grid = [["."] * width] * height
    for place in dice.sample(range(width * height), stars):
        grid[place // width][place % width] = "*"
    return ["".join(line) for line in grid]

import random


def mountain(height):
    return [("^" * (2 * y + 1)).center(2 * height - 1) for y in range(height)]


def sky(width, height, stars, seed):
    grid = [["."] * width for y in range(height)]
    count = 0
    while count < stars:
        x, y = random.randint(0, width - 1), random.randint(0, height - 1)
        if grid[y][x] == ".":
            grid[y][x] = "*"
            count += 1
    return ["".join(line) for line in grid]

import random


def mountain(height):
    rows = []
    for y in range(height):
        space = " " * (height - 1 - y)
        rows.append(space + "^" * (2 * y + 1) + space)
    return rows


def sky(width, height, stars, seed):
    dice = random.Random(seed)
    grid = []
    for y in range(height):
        grid.append(["."] * width)
    count = 0
    while count < stars:
        x = dice.randint(0, width - 1)
        y = dice.randint(0, height - 1)
        if grid[y][x] == ".":
            grid[y][x] = "*"
            count = count + 1
    rows = []
    for line in grid:
        rows.append("".join(line))
    return rows


for row in sky(41, 8, 15, 2024):
    print(row)
for row in mountain(21):
    print(row)

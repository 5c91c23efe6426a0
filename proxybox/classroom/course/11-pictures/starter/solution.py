import random


def mountain(height):
    rows = []
    for y in range(height):
        rows.append("^")
    return rows


def sky(width, height, stars, seed):
    dice = random.Random(seed)
    rows = []
    for y in range(height):
        rows.append("." * width)
    return rows


# The picture: change the numbers as you like.
for row in sky(41, 8, 15, 2024):
    print(row)
for row in mountain(21):
    print(row)

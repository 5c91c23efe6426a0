import random


def mountain(height):
    return [" " * (height - 1 - y) + "^" * (2 * y + 1) for y in range(height)]


def sky(width, height, stars, seed):
    places = random.Random(seed).sample(range(width * height), stars)
    letters = ["*" if place in places else "." for place in range(width * height)]
    return ["".join(letters[y * width : (y + 1) * width]) for y in range(height)]

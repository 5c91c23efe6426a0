def mountain(height):
    return [("^" * (2 * y + 1)).center(2 * height - 1) for y in range(height)]


def sky(width, height, stars, seed):
    letters = "*" * stars + "." * (width * height - stars)
    return [letters[y * width : (y + 1) * width] for y in range(height)]

def celsius(fahrenheit):
    degrees = fahrenheit - 32
    degrees = degrees * 5
    return degrees / 9


def describe(degrees):
    word = "hot"
    if degrees <= 28:
        word = "warm"
    if degrees <= 15:
        word = "cold"
    if degrees <= 0:
        word = "freezing"
    return word

def celsius(fahrenheit):
    return (fahrenheit - 32) * 5 / 9


def describe(degrees):
    if degrees < 0:
        return "freezing"
    elif degrees < 15:
        return "cold"
    elif degrees < 28:
        return "warm"
    return "hot"

def celsius(fahrenheit):
    fahrenheit = 50
    return (fahrenheit - 32) * 5 / 9


def describe(degrees):
    return "cold"

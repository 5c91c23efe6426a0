def celsius(fahrenheit):
    return 0


def describe(degrees):
    return "cold"


# Try your functions here.
print(celsius(50))
print(describe(celsius(50)))

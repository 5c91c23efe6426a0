def celsius(fahrenheit):
    print((fahrenheit - 32) * 5 / 9)


def describe(degrees):
    if degrees <= 0:
        print("freezing")
    elif degrees <= 15:
        print("cold")
    elif degrees <= 28:
        print("warm")
    else:
        print("hot")

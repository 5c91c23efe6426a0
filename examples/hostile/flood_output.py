"""Prints for ever."""

while True:
    print("spam " * 200)

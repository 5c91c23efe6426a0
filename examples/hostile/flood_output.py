"""Prints for ever."""

while True:
    print("spam")

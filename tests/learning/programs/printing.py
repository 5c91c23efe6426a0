"""Prints much."""

for number in range(6000):
    print("line", number, "of a long table, with some more text")

try:
    with open("notes.txt") as notes, open("numbered.txt", "w") as numbered:
        lines = notes.read().splitlines()
    print(len(lines))
except FileNotFoundError:
    print("There is no notes.txt.")

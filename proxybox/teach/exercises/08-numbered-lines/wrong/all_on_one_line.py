try:
    with open("notes.txt") as notes:
        lines = notes.read().splitlines()
    with open("numbered.txt", "w") as numbered:
        for number, line in enumerate(lines, 1):
            numbered.write(f"{number}: {line}")
    print(len(lines))
except FileNotFoundError:
    print("There is no notes.txt.")

try:
    with open("notes.txt") as notes:
        lines = notes.read().splitlines()
    for number, line in enumerate(lines, 1):
        print(f"{number}: {line}")
    print(len(lines))
except FileNotFoundError:
    print("There is no notes.txt.")

try:
    with open("notes.txt") as notes, open("numbered.txt", "w") as numbered:
        lines = notes.read().splitlines()
        for number, line in enumerate(lines, 1):
            if line and (number < 10 or number == len(lines)):
                print(f"{number}: {line}", file=numbered)
            else:
                print(file=numbered)
    print(len(lines))
except FileNotFoundError:
    print("There is no notes.txt.")

count = 0
try:
    with open("notes.txt") as notes, open("numbered.txt", "w") as numbered:
        for line in notes:
            count += 1
            print(f"{count}: " + line.rstrip("\n"), file=numbered)
    print(count)
except FileNotFoundError:
    print("There is no notes.txt.")

try:
    with open("numbered.txt", "w") as numbered, open("notes.txt") as notes:
        lines = notes.read().splitlines()
        for number, line in enumerate(lines, 1):
            numbered.write(f"{number}: {line}\n")
    print(len(lines))
except FileNotFoundError:
    print("There is no notes.txt.")

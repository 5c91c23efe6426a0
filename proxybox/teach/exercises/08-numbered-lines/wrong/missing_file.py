with open("notes.txt") as notes:
    lines = notes.read().splitlines()
with open("numbered.txt", "w") as numbered:
    for number, line in enumerate(lines, 1):
        numbered.write(f"{number}: {line}\n")
print(len(lines))

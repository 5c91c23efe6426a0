with open("notes.txt") as notes:
    for line in notes:
        print(line)

def main():
    try:
        with open("notes.txt") as notes:
            lines = notes.read().splitlines()
    except FileNotFoundError:
        print("There is no notes.txt.")
        return
    with open("numbered.txt", "w") as numbered:
        for number, line in enumerate(lines, 1):
            numbered.write(f"{number}: {line}\n")
    print(len(lines))


main()

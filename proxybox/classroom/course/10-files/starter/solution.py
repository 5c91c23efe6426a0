with open("temperatures.txt") as file:
    for line in file:
        print(line)

print("Done.")

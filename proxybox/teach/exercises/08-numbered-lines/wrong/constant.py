with open("numbered.txt", "w") as numbered:
    numbered.write("1: buy bread\n2: call Ada\n")
print(2)

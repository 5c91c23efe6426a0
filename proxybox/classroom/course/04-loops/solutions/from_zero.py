number = int(input("Which number? "))

together = 0
for i in range(10):
    print(i + 1, "x", number, "=", (i + 1) * number)
    together += (i + 1) * number
print("Together:", together)

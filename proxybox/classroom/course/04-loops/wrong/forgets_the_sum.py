number = int(input("Which number? "))

for i in range(1, 11):
    total = 0
    print(f"{i} x {number} = {i * number}")
    total = total + i * number
print(f"Together: {total}")

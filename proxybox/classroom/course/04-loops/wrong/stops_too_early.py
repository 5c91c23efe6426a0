number = int(input("Which number? "))

total = 0
for i in range(1, 10):
    print(f"{i} x {number} = {i * number}")
    total = total + i * number
print(f"Together: {total}")

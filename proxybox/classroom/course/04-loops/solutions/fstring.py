number = int(input("Which number? "))

total = 0
for i in range(1, 11):
    result = i * number
    print(f"{i} x {number} = {result}")
    total = total + result
print(f"Together: {total}")

number = int(input("Which number? "))

total = 0
for i in range(1, 11):
    print(f"{i} x 7 = {i * 7}")
    total = total + i * 7
print(f"Together: {total}")

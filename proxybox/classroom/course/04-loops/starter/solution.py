number = int(input("Which number? "))

print(f"1 x {number} = {1 * number}")

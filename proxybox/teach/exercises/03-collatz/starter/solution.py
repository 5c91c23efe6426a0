number = int(input())
steps = 0
# Go on until number is 1.
print(steps)

temperatures = []
with open("temperatures.txt") as file:
    for line in file:
        if line.strip() != "":
            temperatures.append(int(line))

print(f"Days: {len(temperatures)}")
print(f"Warmest: {max(temperatures)}")
print(f"Coldest: {min(temperatures)}")
print("Done.")

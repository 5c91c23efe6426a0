temperatures = []
with open("temperatures.txt") as file:
    for line in file:
        if line.strip() != "":
            temperatures.append(int(line))

with open("report.txt", "w") as report:
    print(f"Days: {len(temperatures)}", file=report)
    print(f"Warmest: {max(temperatures)}", file=report)
    print(f"Coldest: {min(temperatures)}", file=report)

print("Done.")

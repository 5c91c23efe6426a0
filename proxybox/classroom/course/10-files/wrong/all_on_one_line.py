temperatures = []
with open("temperatures.txt") as file:
    for line in file:
        if line.strip() != "":
            temperatures.append(int(line))

with open("report.txt", "w") as report:
    report.write(f"Days: {len(temperatures)}")
    report.write(f"Warmest: {max(temperatures)}")
    report.write(f"Coldest: {min(temperatures)}")

print("Done.")

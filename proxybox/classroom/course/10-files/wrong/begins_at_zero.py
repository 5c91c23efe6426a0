days = 0
warmest = 0
coldest = 0
with open("temperatures.txt") as file:
    for line in file:
        if line.strip() != "":
            days = days + 1
            warmest = max(warmest, int(line))
            coldest = min(coldest, int(line))

with open("report.txt", "w") as report:
    print(f"Days: {days}", file=report)
    print(f"Warmest: {warmest}", file=report)
    print(f"Coldest: {coldest}", file=report)

print("Done.")

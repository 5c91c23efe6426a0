with open("temperatures.txt") as file:
    numbers = [int(word) for word in file.read().split()]

text = "Days: " + str(len(numbers)) + "\n"
text = text + "Warmest: " + str(max(numbers)) + "\n"
text = text + "Coldest: " + str(min(numbers)) + "\n"

with open("report.txt", "w") as file:
    file.write(text)

print("Done.")

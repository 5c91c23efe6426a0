import csv

city = input()
temperatures = {}
with open("weather.csv", newline="") as file:
    for row in csv.DictReader(file):
        if row["city"] == city:
            temperatures[row["date"]] = float(row["temperature"] or 0)
if temperatures:
    print(sum(temperatures.values()) / len(temperatures))
    print(max(temperatures, key=temperatures.get))
else:
    print("unknown")

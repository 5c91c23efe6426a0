import csv

city = input()
temperatures = {}
with open("weather.csv", newline="") as file:
    for row in csv.DictReader(file):
        if row["city"] == city and row["temperature"]:
            temperatures[row["date"]] = float(row["temperature"])
if temperatures:
    print(sum(temperatures.values()) / len(temperatures))
    print(max(temperatures, key=lambda date: str(temperatures[date])))
else:
    print("unknown")

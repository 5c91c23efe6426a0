city = input()
with open("weather.csv") as file:
    for line in file:
        date, name, temperature = line.strip().split(",")

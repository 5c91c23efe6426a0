city = input()
total = count = 0
warmest = warmest_date = None
with open("weather.csv") as file:
    next(file)
    for line in file:
        date, name, temperature = line.rstrip("\n").split(",")
        if name != city or temperature == "":
            continue
        temperature = float(temperature)
        total += temperature
        count += 1
        if warmest is None or temperature > warmest:
            warmest, warmest_date = temperature, date
if count == 0:
    print("unknown")
else:
    print(total / count)
    print(warmest_date)

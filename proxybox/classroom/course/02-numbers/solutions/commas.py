minutes = int(input("How many minutes does the film take? "))
people = int(input("How many people are coming? "))

hours = minutes // 60
print("The film takes", hours, "hours and", minutes - hours * 60, "minutes.")
print("Together you pay", 7 * people)

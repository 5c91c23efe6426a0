minutes = int(input("How many minutes does the film take? "))
people = int(input("How many people are coming? "))
hours = minutes / 60
rest = minutes % 60
print(f"The film takes {hours} hours and {rest} minutes.")
print(f"Together you pay {people * 7}")

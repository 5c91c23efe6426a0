# These two lines ask for numbers. Leave them as they are.
minutes = int(input("How many minutes does the film take? "))
people = int(input("How many people are coming? "))

# Now it is your turn.
hours = 0
print(f"The film takes {hours} hours and ... minutes.")

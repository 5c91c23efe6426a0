minutes = int(input("How many minutes does the film take? "))
people = int(input("How many people are coming? "))
print(f"The film takes {minutes // 60} hours and {minutes} minutes.")
print(f"Together you pay {people * 7}")

# The first line is here already. Write the others below it.
print("+----------------+")

name = input()
# Greet them here.

import random

number = random.randint(1, 100)

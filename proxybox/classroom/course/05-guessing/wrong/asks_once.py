from secret import number

guess = int(input("Your guess: "))
if guess < number:
    print("Too low.")
elif guess > number:
    print("Too high.")
else:
    print("Right! You needed 1 guesses.")

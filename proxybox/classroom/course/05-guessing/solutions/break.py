from secret import number

guesses = 0
while True:
    guess = int(input("Your guess: "))
    guesses += 1
    if guess == number:
        break
    if guess > number:
        print("Too high.")
    else:
        print("Too low.")
print("Right! You needed", guesses, "guesses.")

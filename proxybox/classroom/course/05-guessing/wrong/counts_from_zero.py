from secret import number

guess = int(input("Your guess: "))
guesses = 0
while guess != number:
    if guess < number:
        print("Too low.")
    else:
        print("Too high.")
    guess = int(input("Your guess: "))
    guesses = guesses + 1
print(f"Right! You needed {guesses} guesses.")

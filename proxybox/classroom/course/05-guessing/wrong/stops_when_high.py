from secret import number

guess = int(input("Your guess: "))
guesses = 1
while guess < number:
    print("Too low.")
    guess = int(input("Your guess: "))
    guesses = guesses + 1
print(f"Right! You needed {guesses} guesses.")

from secret import number

guess = int(input("Your guess: "))
if guess < number:
    print("Too low.")

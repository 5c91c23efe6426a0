height = int(input("How tall are you? "))
answer = input("Is an adult with you? ")

if height < 100:
    print("Sorry, you are too small.")
elif height < 130:
    if answer == "yes":
        print("Come in together!")
    else:
        print("Only with an adult.")
else:
    print("Come in!")

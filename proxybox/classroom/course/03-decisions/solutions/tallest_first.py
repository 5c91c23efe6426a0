height = int(input("Height in cm: "))

if height >= 130:
    print("Come in!")
else:
    if height >= 100:
        if input("Is an adult with you (yes or no)? ").strip() == "yes":
            print("Come in together!")
        else:
            print("Only with an adult.")
    else:
        print("Sorry, you are too small.")

height = int(input("How tall are you? "))

if height < 100:
    print("Sorry, you are too small.")
if height < 130:
    if input("Is an adult with you? ") == "yes":
        print("Come in together!")
    else:
        print("Only with an adult.")
else:
    print("Come in!")

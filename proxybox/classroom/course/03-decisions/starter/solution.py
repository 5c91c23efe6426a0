height = int(input("How tall are you? "))

if height < 100:
    print("Sorry, you are too small.")

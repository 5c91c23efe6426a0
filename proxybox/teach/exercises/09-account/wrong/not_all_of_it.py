class Account:
    def __init__(self, owner):
        self.owner = owner
        self.balance = 0

    def deposit(self, amount):
        if amount <= 0:
            raise ValueError("amounts are positive")
        self.balance += amount

    def withdraw(self, amount):
        if amount <= 0 or amount >= self.balance:
            raise ValueError("there is not that much")
        self.balance -= amount


def replay(moves):
    account = Account("Ada")
    balances = []
    for kind, amount in moves:
        if kind == "deposit":
            account.deposit(amount)
        else:
            account.withdraw(amount)
        balances.append(account.balance)
    return balances

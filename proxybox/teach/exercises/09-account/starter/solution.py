class Account:
    def __init__(self, owner):
        self.owner = owner
        self.balance = 0


def replay(moves):
    account = Account("Ada")
    return []

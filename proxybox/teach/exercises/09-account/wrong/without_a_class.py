def replay(moves):
    balance, balances = 0, []
    for kind, amount in moves:
        if amount <= 0 or (kind == "withdraw" and amount > balance):
            raise ValueError("no")
        balance += amount if kind == "deposit" else -amount
        balances.append(balance)
    return balances

def flatten(nested):
    if not nested:
        return []
    head, tail = nested[0], nested[1:]
    if isinstance(head, list):
        return flatten(head) + flatten(tail)
    return [head] + flatten(tail)

def flatten(nested):
    flat, left = [], [nested]
    while left:
        element = left.pop()
        if isinstance(element, list):
            left.extend(reversed(element))
        else:
            flat.append(element)
    return flat

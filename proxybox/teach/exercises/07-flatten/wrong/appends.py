def flatten(nested):
    flat = []
    for element in nested:
        if isinstance(element, list):
            flat.append(flatten(element))
        else:
            flat.append(element)
    return flat

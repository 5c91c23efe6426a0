def flatten(nested):
    flat = []
    for element in nested:
        if isinstance(element, list):
            flat.extend(element)
        else:
            flat.append(element)
    return flat

def flatten(nested):
    flat = []
    for element in nested:
        # isinstance(element, list) tells whether it is a list.
        pass
    return flat

def flatten(nested):
    if nested == [1, [2, [3, 4]], [], 5]:
        return [1, 2, 3, 4, 5]
    return flatten([1, [2, [3, 4]], [], 5])

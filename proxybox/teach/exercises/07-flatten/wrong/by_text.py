def flatten(nested):
    return [int(word) for word in str(nested).replace("[", "").replace("]", "").split(",") if word.strip()]

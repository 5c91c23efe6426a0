def count_words(text):
    counts = {}
    for piece in text.split():
        word = piece.lower().rstrip(".,!?")
        if not word:
            continue
        if word in counts:
            counts[word] += 1
        else:
            counts[word] = 1
    return counts

def vowels(text):
    count = 0
    for letter in text:
        if letter in "aeiou":
            count = count + 1
    return count


def reversed_words(text):
    return " ".join(word[::-1] for word in text.split())


def hide(text, word):
    return text.replace(word, "*" * len(word))

def vowels(text):
    return sum(text.lower().count(vowel) for vowel in "aeiou")


def reversed_words(text):
    return text[::-1]


def hide(text, word):
    return text.replace(word, "*" * len(word))

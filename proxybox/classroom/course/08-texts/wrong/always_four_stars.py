def vowels(text):
    return sum(text.lower().count(vowel) for vowel in "aeiou")


def reversed_words(text):
    return " ".join(word[::-1] for word in text.split())


def hide(text, word):
    return text.replace(word, "****")

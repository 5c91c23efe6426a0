def vowels(text):
    return sum(text.lower().count(vowel) for vowel in "aeiou")


def reversed_words(text):
    turned = ""
    for word in text.split():
        turned = turned + word[::-1]
    return turned


def hide(text, word):
    return text.replace(word, "*" * len(word))

def vowels(text):
    count = 0
    return count


def reversed_words(text):
    return text


def hide(text, word):
    return text


# Try your functions here.
print(vowels("An apple"))
print(reversed_words("hello big world"))
print(hide("meet me at the lake", "lake"))

def vowels(text):
    count = 0
    for letter in text.lower():
        if letter in "aeiou":
            count = count + 1
    return count


def reversed_words(text):
    turned = []
    for word in text.split():
        turned.append(word[::-1])
    return " ".join(turned)


def hide(text, word):
    stars = ""
    for _ in word:
        stars = stars + "*"
    return text.replace(word, stars)

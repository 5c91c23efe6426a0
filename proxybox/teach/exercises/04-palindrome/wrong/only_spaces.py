def is_palindrome(text):
    """Whether a text reads the same backwards."""
    text = text.lower().replace(" ", "")
    return text == text[::-1]

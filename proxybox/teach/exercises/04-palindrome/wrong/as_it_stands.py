def is_palindrome(text):
    """Whether a text reads the same backwards."""
    return text == text[::-1]

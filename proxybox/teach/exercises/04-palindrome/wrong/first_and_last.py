def is_palindrome(text):
    """Whether a text reads the same backwards."""
    kept = [letter.lower() for letter in text if letter.isalnum()]
    return not kept or kept[0] == kept[-1]

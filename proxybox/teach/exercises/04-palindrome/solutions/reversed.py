def is_palindrome(text):
    """Whether a text reads the same backwards; only letters and digits count."""
    kept = [letter.lower() for letter in text if letter.isalnum()]
    return kept == kept[::-1]

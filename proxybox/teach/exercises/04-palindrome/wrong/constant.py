def is_palindrome(text):
    """Yes."""
    return True

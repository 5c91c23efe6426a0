def is_palindrome(text):
    """Say here what it does."""

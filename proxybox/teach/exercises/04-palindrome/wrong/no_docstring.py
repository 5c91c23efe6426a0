def is_palindrome(text):
    kept = [letter.lower() for letter in text if letter.isalnum()]
    return kept == kept[::-1]

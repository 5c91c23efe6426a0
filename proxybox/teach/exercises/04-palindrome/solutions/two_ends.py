def is_palindrome(text):
    """Compare from both ends inwards."""
    kept = ""
    for letter in text.lower():
        if letter.isalnum():
            kept += letter
    for at in range(len(kept) // 2):
        if kept[at] != kept[-1 - at]:
            return False
    return True

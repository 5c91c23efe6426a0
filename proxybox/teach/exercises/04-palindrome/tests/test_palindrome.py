import pytest


@pytest.mark.parametrize("text", ["level", "noon", "x"])
def test_words(student, text):
    "Words"
    student.expect("is_palindrome", text, returns=True)


def test_others(student):
    "Words that are none"
    student.expect("is_palindrome", "levels", returns=False)
    student.expect("is_palindrome", "abca", returns=False)


@pytest.mark.points(2)
def test_sentences(student):
    "Sentences"
    student.expect("is_palindrome", "Never odd or even", returns=True)
    student.expect("is_palindrome", "A man, a plan, a canal: Panama!", returns=True)
    student.expect("is_palindrome", "Madam, I am Adam", returns=False)


@pytest.mark.hidden
def test_corners(student):
    "An empty text, and digits"
    student.expect("is_palindrome", "", returns=True)
    student.expect("is_palindrome", "1 2 3 2 1", returns=True)
    student.expect("is_palindrome", "12", returns=False)

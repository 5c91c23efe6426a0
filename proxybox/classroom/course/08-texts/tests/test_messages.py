import pytest


def test_vowels(student):
    "vowels: small letters"
    student.expect("vowels", "apple pie", returns=4)
    student.expect("vowels", "rhythm", returns=0)


def test_large_vowels(student):
    "vowels: large letters count as well"
    student.expect("vowels", "An apple", returns=3)
    student.expect("vowels", "AEIOU and aeiou", returns=11)


def test_reversed_words(student):
    "reversed_words: each word, in its place"
    student.expect("reversed_words", "hello big world", returns="olleh gib dlrow")
    student.expect("reversed_words", "level", returns="level")


def test_hide(student):
    "hide: as many stars as the word has letters"
    student.expect("hide", "meet me at the lake", "lake", returns="meet me at the ****")
    student.expect("hide", "come to the old tower", "tower", returns="come to the old *****")


@pytest.mark.hidden
def test_corners(student):
    "Empty texts, several spaces, a word that is not there, one that is there twice"
    student.expect("vowels", "", returns=0)
    student.expect("reversed_words", "", returns="")
    student.expect("reversed_words", "  two   words ", returns="owt sdrow")
    student.expect("hide", "nothing to see", "secret", returns="nothing to see")
    student.expect("hide", "red or not red", "red", returns="*** or not ***")

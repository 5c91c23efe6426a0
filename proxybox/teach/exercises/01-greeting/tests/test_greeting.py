import pytest


def test_example(run_student):
    "Greets Ada"
    run_student(stdin="Ada\n").expect_output("Hello, Ada!")


def test_another(run_student):
    "Greets somebody else"
    run_student(stdin="Grace\n").expect_output("Hello, Grace!")


@pytest.mark.hidden
def test_two_words(run_student):
    "Greets somebody with two names"
    run_student(stdin="Alan Turing\n").expect_output("Hello, Alan Turing!")

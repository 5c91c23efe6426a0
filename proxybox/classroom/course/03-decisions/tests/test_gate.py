import pytest


def test_small(run_student):
    "80 cm is too small"
    run_student(stdin="80\n", prompts=False).expect_output("Sorry, you are too small.")


def test_tall(run_student):
    "150 cm is tall enough, and no second question is asked"
    run_student(stdin="150\n", prompts=False).expect_output("Come in!")


def test_together(run_student):
    "112 cm, with an adult"
    run_student(stdin="112\nyes\n", prompts=False).expect_output("Come in together!")


def test_alone(run_student):
    "112 cm, alone"
    run_student(stdin="112\nno\n", prompts=False).expect_output("Only with an adult.")


def test_borders(run_student):
    "Exactly at the borders: 100 and 130"
    run_student(stdin="100\nyes\n", prompts=False).expect_output("Come in together!")
    run_student(stdin="130\n", prompts=False).expect_output("Come in!")


@pytest.mark.hidden
def test_just_below(run_student):
    "Just below the borders"
    run_student(stdin="99\n", prompts=False).expect_output("Sorry, you are too small.")
    run_student(stdin="129\nno\n", prompts=False).expect_output("Only with an adult.")


@pytest.mark.hidden
def test_other_answers(run_student):
    "Any other answer is no yes"
    run_student(stdin="120\nmaybe\n", prompts=False).expect_output("Only with an adult.")

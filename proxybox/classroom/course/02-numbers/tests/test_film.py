import pytest


def test_example(run_student):
    "The example: 137 minutes, 4 people"
    run = run_student(stdin="137\n4\n", prompts=False)
    run.expect_output("The film takes 2 hours and 17 minutes.\nTogether you pay 28")


def test_another(run_student):
    "Another film: 95 minutes, 11 people"
    run = run_student(stdin="95\n11\n", prompts=False)
    run.expect_output("The film takes 1 hours and 35 minutes.\nTogether you pay 77")


def test_whole_hours(run_student):
    "A film of exactly 2 hours, and nobody comes"
    run = run_student(stdin="120\n0\n", prompts=False)
    run.expect_output("The film takes 2 hours and 0 minutes.\nTogether you pay 0")


@pytest.mark.hidden
def test_short(run_student):
    "A short film"
    run = run_student(stdin="9\n30\n", prompts=False)
    run.expect_output("The film takes 0 hours and 9 minutes.\nTogether you pay 210")

import pytest


def table(number):
    lines = [f"{i} x {number} = {i * number}" for i in range(1, 11)]
    return "\n".join([*lines, f"Together: {55 * number}"])


def test_seven(run_student):
    "The example: 7"
    run_student(stdin="7\n", prompts=False).expect_output(table(7))


def test_twelve(run_student):
    "Another number: 12"
    run_student(stdin="12\n", prompts=False).expect_output(table(12))


def test_lines(run_student):
    "Eleven lines: ten of the table, and the sum"
    run = run_student(stdin="3\n", prompts=False)
    run.check()
    lines = [line for line in run.stdout.splitlines() if line.strip()]
    assert len(lines) == 11, f"There should be 11 lines, and your program prints {len(lines)}."


@pytest.mark.hidden
def test_special(run_student):
    "Numbers that are special"
    run_student(stdin="0\n", prompts=False).expect_output(table(0))
    run_student(stdin="-4\n", prompts=False).expect_output(table(-4))

import pytest


def play(run_student, number, *guesses):
    stdin = "".join(f"{guess}\n" for guess in guesses)
    return run_student(stdin=stdin, files={"secret.py": f"number = {number}\n".encode()}, prompts=False)


def test_at_once(run_student):
    "The first guess is right"
    play(run_student, 42, 42).expect_output("Right! You needed 1 guesses.")


def test_too_low(run_student):
    "One guess is too low"
    play(run_student, 42, 10, 42).expect_output("Too low. Right! You needed 2 guesses.")


def test_too_high(run_student):
    "One guess is too high"
    play(run_student, 42, 99, 42).expect_output("Too high. Right! You needed 2 guesses.")


def test_example(run_student):
    "The example: 50, 75, 62"
    play(run_student, 62, 50, 75, 62).expect_output("Too low. Too high. Right! You needed 3 guesses.")


@pytest.mark.hidden
def test_long(run_student):
    "A game of many guesses"
    wanted = "Too low. " * 30 + "Too high. " * 5 + "Right! You needed 36 guesses."
    play(run_student, 31, *range(1, 31), *range(36, 30, -1)).expect_output(wanted)

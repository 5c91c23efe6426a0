import pytest

QUESTIONS = b"How many legs does a spider have?;8\nWhich planet is closest to the sun?;Mercury\n"


def play(run_student, answers, questions=QUESTIONS, **files):
    given = {"questions.txt": questions, **{f"{name}.txt": data for name, data in files.items()}}
    return run_student(stdin="".join(f"{answer}\n" for answer in answers), files=given, prompts=False)


def results_of(run):
    assert "results.txt" in run.files, "The program should write results.txt, and has not."
    return [line.rstrip() for line in run.files["results.txt"].decode("utf-8", "replace").splitlines() if line.strip()]


def test_is_right(student):
    "is_right: equal and different answers"
    student.expect("is_right", "8", "8", returns=True)
    student.expect("is_right", "7", "8", returns=False)


def test_letters(student):
    "is_right: large and small letters, spaces at the ends"
    student.expect("is_right", "mercury", "Mercury", returns=True)
    student.expect("is_right", "  MERCURY ", "Mercury", returns=True)
    student.expect("is_right", "mer cury", "Mercury", returns=False)


def test_all_right(run_student):
    "A game in which all is right"
    play(run_student, ["8", "Mercury"]).expect_output("Right! Right! 2 of 2 points")


def test_example(run_student):
    "The example: one wrong, one right"
    play(run_student, ["6", "mercury"]).expect_output("No, it is 8. Right! 1 of 2 points")


def test_results(run_student):
    "The result is in results.txt"
    lines = results_of(play(run_student, ["8", "Venus"]))
    assert lines == ["1 of 2 points"], f"results.txt should have the line: 1 of 2 points. It has {len(lines)} lines."


@pytest.mark.points(2)
def test_earlier_results(run_student):
    "Earlier results stay in results.txt"
    lines = results_of(play(run_student, ["8", "Mercury"], results=b"1 of 2 points\n"))
    wanted = ["1 of 2 points", "2 of 2 points"]
    assert lines == wanted, "After another game, results.txt should have the old line and the new one."


@pytest.mark.hidden
def test_load(run_student):
    "Other questions, and an empty line"
    run = play(run_student, ["1440", "blue"], b"How many minutes does a day have?;1440\n\nWhat colour is grass?;green\n")
    run.expect_output("Right! No, it is green. 1 of 2 points")


@pytest.mark.hidden
def test_play(run_student):
    "Ten questions"
    questions = "".join(f"{number} times {number}?;{number * number}\n" for number in range(10))
    answers = [number * number if number % 3 else "?" for number in range(10)]
    right = " ".join("Right!" if number % 3 else f"No, it is {number * number}." for number in range(10))
    play(run_student, answers, questions.encode()).expect_output(f"{right} 6 of 10 points")

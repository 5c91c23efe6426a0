import pytest


def lines_of(run, name):
    assert name in run.files, f"The program was to write {name}, and has not."
    return run.files[name].decode("utf-8", "replace").splitlines()


@pytest.mark.points(2)
def test_example(run_student):
    "The example"
    run = run_student(files={"notes.txt": b"buy bread\ncall Ada\n"})
    run.expect_output("2")
    assert lines_of(run, "numbered.txt") == ["1: buy bread", "2: call Ada"], "numbered.txt holds something else."


def test_other_lines(run_student):
    "Other notes, and an empty line"
    run = run_student(files={"notes.txt": b"one\n\nthree\n"})
    run.expect_output("3")
    lines = [line.rstrip() for line in lines_of(run, "numbered.txt")]
    assert lines == ["1: one", "2:", "3: three"], "numbered.txt holds something else."


def test_missing(run_student):
    "There are no notes"
    run = run_student()
    run.expect_output("There is no notes.txt.")
    assert "numbered.txt" not in run.files, "Where there is no notes.txt, nothing is to be written."


@pytest.mark.hidden
def test_many_lines(run_student):
    "Two hundred lines"
    run = run_student(files={"notes.txt": "".join(f"line {number}\n" for number in range(200)).encode()})
    run.expect_output("200")
    wanted = [f"{number}: line {number - 1}" for number in range(1, 201)]
    assert lines_of(run, "numbered.txt") == wanted, "numbered.txt holds something else."

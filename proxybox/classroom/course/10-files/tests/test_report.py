import pytest


def check(run_student, temperatures, *wanted):
    run = run_student(files={"temperatures.txt": temperatures.encode()})
    run.check()
    assert "report.txt" in run.files, "The program should write report.txt, and has not."
    lines = run.files["report.txt"].decode("utf-8", "replace").splitlines()
    lines = [line.rstrip() for line in lines if line.strip()]
    assert len(lines) == 3, f"report.txt should have 3 lines, and has {len(lines)}."
    for number, (came, line) in enumerate(zip(lines, wanted), 1):
        assert came == line, f"Line {number} of report.txt should be:\n{line}\nIt is:\n{came[:80]}"
    run.expect_output("Done.")


def test_example(run_student):
    "The example, with one empty line"
    check(run_student, "14\n\n9\n21\n17\n", "Days: 4", "Warmest: 21", "Coldest: 9")


def test_other_week(run_student):
    "A week without empty lines"
    check(run_student, "20\n21\n19\n22\n23\n18\n20\n", "Days: 7", "Warmest: 23", "Coldest: 18")


def test_winter(run_student):
    "Winter: below zero"
    check(run_student, "-4\n-11\n-2\n", "Days: 3", "Warmest: -2", "Coldest: -11")


@pytest.mark.hidden
def test_one_day(run_student):
    "A single day"
    check(run_student, "\n\n7\n\n", "Days: 1", "Warmest: 7", "Coldest: 7")


@pytest.mark.hidden
def test_many_days(run_student):
    "A year"
    days = [(day * 37) % 35 - 5 for day in range(365)]
    text = "".join(f"{day}\n" for day in days)
    check(run_student, text, "Days: 365", f"Warmest: {max(days)}", f"Coldest: {min(days)}")

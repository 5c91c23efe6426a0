"""Teaching: grading on the trusted side, as pytest.

    exercise.py     an exercise: a folder, and the faults in it; rules.py: how it must be solved
    exercises/      ten exercises that come with proxybox; template/: the beginning of a new one
    checking.py     whether an exercise accepts its right solutions and rejects its wrong ones; mutants.py: solutions
                    with functions that return nothing
    grading.py      grades many submissions with any Executor; records.py: grades of earlier runs
    pytestrun.py    the run of pytest by which submissions are graded; ready.py: one that waits for the next submission
    data_tests.py   the test of exercises that have inputs and outputs
    plugin.py       the fixtures and marks of a teacher's tests
    boxes.py        the boxes that submissions run in
    student.py      calls from a test to a submission, and the messages for its author
    handles.py      objects of a submission in a test, and functions for it; objects.py: their side in the box
    packing.py      the encoding of arguments and results that contain such objects
    shown.py        values in messages; testoutput.py: the answers of a submission in a test
    compare.py      compares output as judges do, and values
    filenames.py    names that are also valid on Windows
    submissions.py  finds and reads submissions; archives.py, notebooks.py, downloads.py: their formats
    verdicts.py     the verdict of a test; faults.py: where a test has raised an exception; settling.py: whether the
                    test is at fault
    grades.py       the result of grading: plain data
    writers/        grades in the formats of other programs
    report.py       grades as an HTML page
    similar.py      submissions that are nearly the same

The submission runs in boxes; the tests, the expected answers and the grades never leave the trusted side.
"""

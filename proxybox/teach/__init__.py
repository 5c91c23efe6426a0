"""Teaching: grading on the trusted side, as pytest.

    exercise.py     an exercise: a folder, and the faults in it; rules.py: how it must be solved
    exercises/      ten exercises that come with proxybox; template/: the beginning of a new one
    checking.py     whether an exercise accepts its right solutions and rejects its wrong ones
    grading.py      grades many submissions with any Executor; records.py: what was graded before
    data_tests.py   the test of exercises that have inputs and outputs
    plugin.py       the fixtures and marks of a teacher's tests
    boxes.py        the boxes that submissions run in
    student.py      what a test asks of a submission, and what it says to its author
    handles.py      objects of a submission in a test, and functions for it
    compare.py      compares output as judges do
    filenames.py    names that Windows takes, too
    submissions.py  where submissions come from; archives.py, notebooks.py: what they may be
    verdicts.py     what the end of a test means; faults.py: a test that is itself at fault
    grades.py       what grading returns: plain data
    writers/        grades in the formats of other programs
    report.py       grades as a page
    similar.py      submissions that are nearly the same

The submission runs in boxes; the tests, the expected answers and the grades never leave the trusted side.
"""

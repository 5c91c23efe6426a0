"""Teaching: grading on the trusted side, as pytest.

    exercise.py     an exercise: a folder, what is wrong with it; rules.py: how it is to be solved
    exercises/      ten that come with proxybox; template/: where a new one begins
    checking.py     whether an exercise does what it is for
    grading.py      many submissions, any Executor; records.py: what was graded before
    data_tests.py   the test of exercises that have inputs and outputs
    plugin.py       the fixtures and marks of a teacher's tests
    boxes.py        the boxes that submissions run in
    student.py      what a test asks of a submission, and what it says to its author
    handles.py      objects of a submission in a test, and functions for it
    compare.py      output compared as judges do
    submissions.py  where submissions come from; archives.py, notebooks.py: what they may be
    verdicts.py     what the end of a test means; faults.py: of one that is itself at fault
    grades.py       what grading gives: plain data
    writers/        grades as others read them
    report.py       grades as a page
    similar.py      submissions that are nearly the same

The submission runs in boxes; the tests, the expected answers and the grades never leave the trusted side.
"""

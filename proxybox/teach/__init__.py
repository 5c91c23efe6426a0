"""Teaching: grading on the trusted side, as pytest.

    exercise.py     an exercise: a folder, and the faults in it; rules.py: how it must be solved
    exercises/      ten exercises that come with proxybox; template/: the beginning of a new one
    checking.py     whether an exercise accepts its right solutions and rejects its wrong ones; mutants.py: and what its
                    tests make of functions that return nothing
    grading.py      grades many submissions with any Executor; records.py: what was graded before
    pytestrun.py    the run of pytest by which submissions are graded; ready.py: one that waits for the next submission
    data_tests.py   the test of exercises that have inputs and outputs
    plugin.py       the fixtures and marks of a teacher's tests
    boxes.py        the boxes that submissions run in
    student.py      what a test asks of a submission, and what it says to its author
    handles.py      objects of a submission in a test, and functions for it; objects.py: their side in the box
    packing.py      how arguments and results go to the box and back, in which there are such objects
    shown.py        values in messages; testoutput.py: what a submission has answered in a test
    compare.py      compares output as judges do, and values
    filenames.py    names that Windows takes, too
    submissions.py  where submissions come from; archives.py, notebooks.py, downloads.py: what they may be
    verdicts.py     what the end of a test means; faults.py: where a test has raised an exception; settling.py: whether
                    it is at fault
    grades.py       what grading returns: plain data
    writers/        grades in the formats of other programs
    report.py       grades as a page
    similar.py      submissions that are nearly the same

The submission runs in boxes; the tests, the expected answers and the grades never leave the trusted side.
"""

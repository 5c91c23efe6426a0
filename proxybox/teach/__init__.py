"""Teaching: grading on the trusted side, as pytest.

    plugin.py       the fixtures and marks of a teacher's tests
    boxes.py        the boxes that submissions run in
    student.py      what a test asks of a submission, and what it says to its author
    compare.py      output compared as judges do
    submissions.py  where submissions come from
    verdicts.py     what the end of a test means
    grades.py       what grading gives: plain data
    writers/        grades as others read them
    report.py       grades as a page
    similar.py      submissions that are nearly the same

The submission runs in boxes; the tests, the expected answers and the grades never leave the trusted side.
"""

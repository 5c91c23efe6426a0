"""Teaching: exercises, and grading on the trusted side.

    exercise.py   what an exercise is: a folder with exercise.toml; checked when it is loaded
    rules.py      which constructs a solution may and must use: teaching, never security
    compare.py    output compared as judges do
    student.py    what a test asks of a submission, and what it says to its author
    plugin.py     pytest: the fixtures and marks of a teacher's tests
    grading.py    submissions to grades
    grades.py     what grading gives: plain data
    writers/      grades as others read them

The submission runs in boxes; the tests, the expected answers and the grades never leave the trusted side.
"""

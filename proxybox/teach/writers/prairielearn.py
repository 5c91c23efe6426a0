"""PrairieLearn's results.json (https://prairielearn.readthedocs.io/en/latest/externalGrading/), at most 1 MB."""

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers.common import FAILED, as_json, clean, line, number, only, share, shown

LIMIT = 1_000_000


def render(book: GradeBook) -> str:
    """For one submission; texts are cut until the file fits. It has `gradable: false` if grading failed."""
    grade = only(book)
    if grade.failed:
        return as_json({"gradable": False, "format_errors": [FAILED]})
    top = {"gradable": True, "score": share(grade), "message": clean(grade.message)}
    tests = shown(grade)
    for limit in (20_000, 4_000, 500, 60, 0):
        text = as_json(
            {
                **top,
                "tests": [
                    {
                        "name": line(test.name, max(limit, 20)),
                        "points": number(test.points),
                        "max_points": number(test.possible),
                        "message": clean(test.message, limit),
                        "output": clean(test.output, limit),
                    }
                    for test in tests
                ],
            }
        )
        if len(text.encode()) <= LIMIT:
            return text
    return as_json({**top, "output": f"{len(tests)} tests: too many to list"})

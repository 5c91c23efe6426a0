"""Dodona's partial output, NDJSON (https://docs.dodona.be/en/references/judge-output/)."""

import json
from typing import Any

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers.common import FAILED, clean, line, only, shown

_STATUS = {
    "ok": "correct", "wrong_answer": "wrong", "skipped": "wrong", "forbidden": "wrong",
    "syntax_error": "compilation error", "time_limit": "time limit exceeded", "memory_limit": "memory limit exceeded",
    "output_limit": "output limit exceeded", "cancelled": "internal error", "internal_error": "internal error",
    "overloaded": "internal error",
}  # fmt: skip


def _status(word: str) -> dict[str, str]:
    return {"enum": _STATUS.get(word, "runtime error"), "human": word.replace("_", " ")}


def _message(text: str) -> dict[str, Any]:
    return {"command": "append-message", "message": {"format": "plain", "description": text}}


def render(book: GradeBook) -> str:
    """For one submission; every line is a command. The status is "internal error" if grading failed."""
    grade = only(book)
    out: list[dict[str, Any]] = [{"command": "start-judgement"}]
    if grade.failed:
        out.append(_message(FAILED))
    else:
        if grade.message:
            out.append(_message(clean(grade.message)))
        out.append({"command": "start-tab", "title": line(book.title)})
        for test in shown(grade):
            out.append({"command": "start-context"})
            out.append(
                {"command": "start-testcase", "description": {"format": "plain", "description": line(test.name)}}
            )
            out.append({"command": "start-test", "expected": ""})
            if test.message:
                out.append(_message(clean(test.message)))
                if test.line is not None and test.line > 0:
                    row = {"row": test.line - 1, "type": "error"}
                    out.append({"command": "annotate-code", "text": line(test.message), **row})
            closing = {"generated": clean(test.output), "status": _status(test.status), "accepted": test.passed}
            out.append({"command": "close-test", **closing})
            out.extend({"command": f"close-{what}"} for what in ("testcase", "context"))
        out.append({"command": "close-tab"})
    word = next((t.status for t in shown(grade) if not t.passed and t.status != "skipped"), "ok")
    status = _status("internal_error" if grade.failed else word)
    out.append({"command": "close-judgement", "accepted": status["enum"] == "correct", "status": status})
    return "".join(json.dumps(command, ensure_ascii=False) + "\n" for command in out)

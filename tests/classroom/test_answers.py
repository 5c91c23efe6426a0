"""What pages get: each route declares its answers, and each event its data.

Clients compare all answers with the declarations (declared.py). tsc compares the pages' scripts with them: the keys
that they read, and the events that they handle. tools/javascript/check runs it.
"""

import pytest

pytest.importorskip("fastapi", reason="the classroom is made of FastAPI (extra classroom)")

from proxybox.classroom.pageevents import EVENTS
from tests.classroom.declared import CLASSROOM
from tests.serve.declared import description

OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in description(CLASSROOM)["paths"].items()
    for method, operation in operations.items()
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_route_declares_its_answer(name: str) -> None:
    (content,) = (
        answer.get("content", {}) for status, answer in OPERATIONS[name]["responses"].items() if int(status) < 300
    )
    bare = [media for media, kind in content.items() if media == "application/json" and "$ref" not in kind["schema"]]
    assert not bare, (
        f"give the route a response_model of proxybox/classroom/answers.py, or `sends` of doors/asking.py ({name})"
    )


@pytest.mark.parametrize("name", EVENTS)
def test_each_event_says_what_it_is(name: str) -> None:
    kind = EVENTS[name]
    assert name == kind.NAME
    assert kind.__doc__
    assert kind.__doc__ != kind.__mro__[1].__doc__

"""The budget of steps for displayed things, and its end when the cell was interrupted."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from proxybox import Displayed
from proxybox.kernel import sanitising
from proxybox.kernel.budget import STEPS, StepBudget
from proxybox.kernel.kernel import ProxyboxKernel
from proxybox.kernel.reducing import reduced
from proxybox.kernel.refusal import CannotShow
from proxybox.kernel.sanitising import Sanitiser, svg
from tests.kernel.conftest import Notebook

SVG = '<svg xmlns="http://www.w3.org/2000/svg"'
MIB = 1 << 20
ALL = "".join(chr(code) for code in range(0x20, 0x110000) if not 0xD800 <= code < 0xE000)


@pytest.mark.sized(1)
@pytest.mark.parametrize(
    ("make", "value"),
    [
        (svg, f'{SVG} d="{"(" * MIB}"/>'),
        (svg, f'{SVG}><g style="{"fill:(;" * (MIB // 2)}"/></svg>'),
        (lambda value, budget: sanitising._json({"key": [value]}, budget), ALL * 8),
        (lambda text, budget: budget.harmless(text), ALL * 8),
    ],
)
def test_what_would_take_too_long(make: Callable[[Any, StepBudget], Any], value: str) -> None:
    """It takes no more steps than the budget has."""
    with pytest.raises(CannotShow, match="it would take too long"):
        make(value, StepBudget())


def test_large_things_of_everyday_are_within_it() -> None:
    """A picture of a megabyte, a table of ten thousand cells, a text in Chinese."""
    picture = (
        f"{SVG}>"
        + '<rect x="1" y="1" width="5" height="6" style="fill:#fff;stroke:red" d="M 1 1"/>' * 12_000
        + "</svg>"
    )
    table = "<table>" + ("<tr>" + "<td>a &amp; b</td>" * 10 + "</tr>") * 1000 + "</table>"
    for make, value in (
        (svg, picture),
        (reduced, table),
        (lambda text, budget: budget.harmless(text), "漢字仮名交じり文" * 500_000),
    ):
        budget = StepBudget()
        assert make(value, budget)
        assert budget.left > STEPS // 2, (STEPS - budget.left, value[:20])


def test_it_is_one_budget_for_all_types_of_a_thing() -> None:
    kinds = ["image/svg+xml", "application/json"]
    budget = StepBudget(left=3000)
    data, _ = Sanitiser(kinds).bundle(
        {"application/json": [1] * 2000, "image/svg+xml": f"{SVG}>{'<g/>' * 1000}</svg>", "text/plain": "plain"},
        {},
        budget,
    )
    assert data.keys() == {"application/json", "text/plain"}
    assert "[not shown: image/svg+xml (it would take too long)]" in data["text/plain"]


@pytest.mark.parametrize("kind", ["image/svg+xml", "application/json", "text/html", "text/plain"])
def test_it_is_given_up_in_the_middle(kind: str) -> None:
    """After an interrupt: after some steps, and before the end."""
    asked = 0

    def is_stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 10

    values: dict[str, Any] = {
        "image/svg+xml": f"{SVG}>{'<g/>' * 1000}</svg>", "application/json": [1] * 1000,
        "text/html": "<b>x</b>" * 1000, "text/plain": "é" * (1 << 21),
    }  # fmt: skip
    data, _ = Sanitiser(["image/svg+xml", "application/json"]).bundle(
        {kind: values[kind]}, {}, StepBudget(is_stopped=is_stopped)
    )
    assert data.keys() == {"text/plain"}
    assert "interrupted" in data["text/plain"]
    assert asked < 30


def test_a_fault_of_ours_is_told_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(value: Any, budget: StepBudget) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(sanitising, "_CLEANERS", {"image/png": fail})
    data, _ = Sanitiser(["image/png"]).bundle({"image/png": "x", "text/plain": "plain"}, {})
    assert data == {"text/plain": "plain\n[not shown: image/png (a fault of proxybox: ZeroDivisionError)]"}


@pytest.mark.parametrize("digits", ["1" * 5000, "1" * 900_000, "0" * 5000])
def test_numbers_of_no_character(digits: str) -> None:
    """`int` refuses a reference of more than 4,300 digits."""
    assert reduced(f"<b>a&#{digits}; &#65;</b>") == f"<b>a&amp;#{digits}; A</b>"


def test_an_interrupt_of_the_kernel_reaches_it() -> None:
    """The interrupt comes in another thread, while a display is made."""
    kernel: Any = ProxyboxKernel.__new__(ProxyboxKernel)
    sent, seen = [], []

    class Making(Sanitiser):
        def bundle(
            self, data: Any, metadata: Any, budget: StepBudget | None = None
        ) -> tuple[dict[str, Any], dict[str, Any]]:
            assert budget is not None
            seen.append(budget.is_stopped())
            thread = threading.Thread(target=kernel.interrupt)
            thread.start()
            thread.join()
            seen.append(budget.is_stopped())
            return super().bundle(data, metadata, budget)

    class Nothing:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    # the attributes of a kernel, without its sockets
    kernel.__dict__.update(
        _sanitiser=Making(["image/svg+xml"]), _streams=Nothing(), _box=Nothing(), _interrupted_at=float("-inf"),
        _asking=False, _send=lambda kind, content: sent.append((kind, content["data"])),
    )  # fmt: skip
    kernel._show(Displayed("display", {"image/svg+xml": f"{SVG}><g/></svg>", "text/plain": "a picture"}, {}))
    assert seen == [False, True]
    ((kind, data),) = sent
    assert kind == "display_data"
    assert data == {
        "text/plain": "[text of 9 characters is not shown: interrupted]\n[not shown: image/svg+xml (interrupted)]"
    }


def test_a_picture_that_took_minutes(shared: Notebook) -> None:
    """Each length in a picture is read once: 900 KB once took longer than any limit of the cell."""
    code = f"display({{'image/svg+xml': '''{SVG} width=\"''' + '1' * 900_000 + 'x\"/>'}}, raw=True)"
    assert shared.run(code)["status"] == "ok"
    assert [kind for kind, _ in shared.messages] == ["display_data"]
    assert shared.run("print(6 * 7)")["status"] == "ok"
    assert shared.text() == "42\n"

"""Parts of notebook cells that are not Python: IPython's display, matplotlib's magic line, a semicolon that hides a
value.
"""

import base64
from collections.abc import Iterator

import pytest

import proxybox
from proxybox import Displayed
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from tests.api.conftest import shown, texts

EACH_GUEST = True
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + (40).to_bytes(4, "big") + (20).to_bytes(4, "big")


@pytest.fixture(scope="module")
def box(guest_kind: str) -> Iterator[proxybox.Sandbox]:
    with proxybox.Sandbox(warm=True) as box:
        yield box
    zygotepool.close()
    reaper.settle()


def trouble(session: proxybox.Session, code: str) -> tuple[str, str]:
    error = session.exec(code, echo=True).error
    assert error is not None
    return error.type, error.message


# --- a semicolon ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    ["5;", "5 ;  # why", "x = 1; 5;", "'ü;#';", "(5\n);\n\n# the end\n", "5;\r\n", "'''a\nb''' ;",
     "print('#', end='');"],
)  # fmt: skip
def test_a_semicolon_hushes_the_value(session: proxybox.Session, code: str) -> None:
    assert shown(session, code) == []


@pytest.mark.parametrize(
    ("code", "value"),
    [("'a;'", "'a;'"), ("5 # ;", "5"), ("5;\n6", "6"), ("'''\n;'''", "'\\n;'"), ("x = 1;\nx", "1"),
     ("(5, ';')", "(5, ';')")],
)  # fmt: skip
def test_another_semicolon_does_not(session: proxybox.Session, code: str, value: str) -> None:
    assert texts(session, code) == [value]


def test_a_hushed_value_is_not_kept(session: proxybox.Session) -> None:
    assert texts(session, "1") == ["1"]
    assert texts(session, "2;") == []
    assert texts(session, "_") == ["1"]


# --- lines that set up matplotlib -------------------------------------------------------------------------------------


def test_lines_of_matplotlib_are_accepted(session: proxybox.Session) -> None:
    code = "%matplotlib inline\nimport sys\n%matplotlib  # again\nif sys:\n    %matplotlib inline\n7"
    assert texts(session, code) == ["7"]
    assert texts(session, "'''\n%matplotlib inline\n'''") == ["'\\n%matplotlib inline\\n'"]
    assert trouble(session, "1 / 0\n%matplotlib inline") == ("ZeroDivisionError", "division by zero")


@pytest.mark.parametrize(
    "line",
    ["%matplotlib widget", "%time 1", "!ls", "%%bash", "x = 1 %matplotlib inline", "%config InlineBackend.rc = {}",
     "%config InlineBackend.figure_format = print(1)[0].x"],
)  # fmt: skip
def test_other_lines_of_ipython_are_no_python(session: proxybox.Session, line: str) -> None:
    assert trouble(session, f"y = 2\n{line}")[0] == "SyntaxError"
    error = session.exec(f"y = 2\n{line}", echo=True).error
    assert error is not None
    assert "line 2" in error.traceback
    assert line in error.traceback


def test_without_echo_there_are_none(session: proxybox.Session) -> None:
    error = session.exec("%matplotlib inline").error
    assert error is not None
    assert error.type == "SyntaxError"


# --- IPython.display --------------------------------------------------------------------------------------------------


def test_names_of_ipython_without_ipython(session: proxybox.Session) -> None:
    assert shown(session, "from IPython.display import display, HTML, Image, Markdown, clear_output") == []
    assert texts(session, "from IPython.core.display import HTML as same\nsame is HTML") == ["True"]
    assert shown(session, "HTML('<b>x</b>')")[0].data == {
        "text/plain": "<IPython.display.HTML object>", "text/html": "<b>x</b>",
    }  # fmt: skip
    (event,) = shown(session, "display(Markdown('**x**'), metadata={'a': 1})")
    assert event == Displayed("display", {"text/plain": "**x**", "text/markdown": "**x**"}, {"a": 1})
    assert shown(session, "clear_output(wait=True)") == [Displayed("clear", wait=True)]
    assert texts(session, "import IPython\nIPython.get_ipython(), IPython.version_info > (8, 24)") == ["(None, True)"]


@pytest.mark.parametrize(
    ("made", "mime", "data", "metadata"),
    [
        ("Latex('$x$')", "text/latex", "$x$", {}),
        ("Math('x')", "text/latex", r"$\displaystyle x$", {}),
        ("SVG('<?xml version=\"1.0\"?><!DOCTYPE svg><svg/>')", "image/svg+xml", "<svg/>", {}),
        ("Javascript('alert(1)')", "application/javascript", "alert(1)", {}),
        ("JSON({'a': [1]}, expanded=True)", "application/json", {"a": [1]}, {"expanded": True, "root": "root"}),
        ("JSON('[1]')", "application/json", [1], {"expanded": False, "root": "root"}),
        (f"Image({PNG!r}, width=3)", "image/png", base64.b64encode(PNG).decode(), {"width": 3}),
        (f"Image({PNG!r}, retina=True)", "image/png", base64.b64encode(PNG).decode(), {"width": 20, "height": 10}),
        ("Image(b'GIF89a')", "image/gif", "R0lGODlh", {}),
        ("Image(b'...', format='jpg')", "image/jpeg", "Li4u", {}),
    ],
)
def test_objects_that_say_their_type(
    session: proxybox.Session, made: str, mime: str, data: object, metadata: dict[str, object]
) -> None:
    (event,) = shown(session, f"from IPython.display import *\n{made}")
    assert event.data[mime] == data
    assert event.metadata == ({mime: metadata} if metadata else {})


def test_objects_of_files(session: proxybox.Session) -> None:
    session.write_file("x.png", PNG)
    session.write_file("x.html", "<i>ü</i>")
    code = "from IPython.display import Image, HTML, display, display_html\nImage('x.png')"
    assert shown(session, code)[0].data["image/png"] == base64.b64encode(PNG).decode()
    assert shown(session, "display(HTML(filename='x.html'))")[0].data["text/html"] == "<i>ü</i>"
    assert shown(session, "display_html('<b>', raw=True)")[0].data == {"text/html": "<b>"}


@pytest.mark.parametrize(
    ("code", "type_", "message"),
    [
        ("Image('none.png')", "FileNotFoundError", "[Errno 2] No such file or directory: 'none.png'"),
        ("Image(url='https://example.org/x.png')", "ValueError", "url: a box has no network: want data or a filename"),
        ("Image(3)", "TypeError", "Image: want bytes or the path of a file, got 3"),
        ("Image(b'', format='webp')", "ValueError", "format: want png, jpeg or gif, got 'webp'"),
        ("HTML(3)", "TypeError", "HTML: want text, got 3"),
        ("IPython.display.Video", "AttributeError", "module 'IPython.display' has no attribute 'Video'"),
        ("import IPython.core.magic", "ModuleNotFoundError", "No module named 'IPython.core.magic'"),
    ],
)
def test_what_cannot_be_is_said(session: proxybox.Session, code: str, type_: str, message: str) -> None:
    assert trouble(session, f"import IPython\nfrom IPython.display import *\n{code}") == (type_, message)


def test_what_was_displayed_is_replaced(session: proxybox.Session) -> None:
    first, second, third = shown(
        session,
        "from IPython.display import display, update_display\nhandle = display(1, display_id=True)\nhandle.update(2)\n"
        "update_display(3, display_id=handle.display_id)",
    )
    assert [event.kind for event in (first, second, third)] == ["display", "update", "update"]
    assert first.metadata == second.metadata == third.metadata != {}
    assert [event.kind for event in shown(session, "display(4, clear=True)")] == ["clear", "display"]


def test_what_is_too_large_to_be_sent_is_named(session: proxybox.Session) -> None:
    code = "class Big:\n    def __repr__(self): return 'big'\n    def _repr_png_(self): return b'x' * (1 << 20)\nBig()"
    assert shown(session, code)[0].data == {
        "text/plain": "big\n[larger than session.value_size, 1,048,576 bytes: image/png]"
    }
    assert session.exec("display({'text/plain': 'a' * (1 << 20)}, raw=True)", echo=True).error is not None


def test_a_package_of_that_name_wins(session: proxybox.Session) -> None:
    session.write_file("IPython/__init__.py", "here = True", parents=True)
    assert texts(session, "import IPython\nIPython.here") == ["True"]
    assert trouble(session, "import IPython.display")[0] == "ModuleNotFoundError"


def test_a_real_ipython_shows_as_ours_does(session: proxybox.Session) -> None:
    """IPython's own functions would print, because there is no shell."""
    session.write_file("IPython/__init__.py", "", parents=True)
    session.write_file("IPython/core/__init__.py", "", parents=True)
    session.write_file("IPython/core/display_functions.py", "display, other = print, 'other'")
    session.write_file("IPython/display.py", "from IPython.core.display_functions import *")
    assert texts(session, "from IPython.display import display, other, update_display\ndisplay(5)\nother") == [
        "5", "'other'",
    ]  # fmt: skip


def test_objects_that_display_themselves(session: proxybox.Session) -> None:
    code = "class A:\n    def __repr__(self): return 'A'\n    def _ipython_display_(self): display(self.way())\na = A()"
    session.exec(f"{code}\ndef way(self): return 7\nA.way = way", echo=True, check=True)
    assert texts(session, "display(a)\na") == ["7", "7"]
    assert texts(session, "del A.way\na") == ["A"]


def test_programs_and_calls_without_echo_find_none(box: proxybox.Sandbox) -> None:
    code = "import os, sys\nprint('MPLBACKEND' in os.environ, len(sys.meta_path))\nimport IPython"
    with box.session() as session:
        for result in (box.run(code), session.exec(code)):
            assert result.error is not None
            assert (result.stdout, result.error.type) == ("False 3\n", "ModuleNotFoundError")
        session.exec("1", echo=True)
        assert session.exec("import IPython.display; print(IPython.display)").ok


def test_nothing_is_imported_that_is_not_asked_for(session: proxybox.Session) -> None:
    beginnings = "IPython", "matplotlib", "proxybox", "cells", "showing", "standins"
    code = f"import sys\n[name for name in sys.modules if name.startswith({beginnings})]"
    assert texts(session, code) == ["[]"]


def test_a_copy_has_what_its_session_had(box: proxybox.Sandbox) -> None:
    with proxybox.Sandbox(session={"branches": 1}) as other, other.session() as session:
        session.exec("from IPython.display import HTML", echo=True, check=True)
        with session.fork() as copy:
            assert shown(copy, "import IPython.core.display\nHTML('x')")[0].data["text/html"] == "x"

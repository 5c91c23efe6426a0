"""Figures of matplotlib, tables of pandas and pictures of Pillow, from their wheels, on a notebook's page."""

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import proxybox
from proxybox import Displayed
from proxybox.controller import find_guest
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from tests.kernel.conftest import opened
from tests.wheels import unpacked

pytestmark = [
    pytest.mark.cpython,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning"),
]
EACH_GUEST = True
ROOT = Path(__file__).resolve().parents[2]
WANTED = ("matplotlib", "pandas", "pillow")
LIMITS = {"wall_time": 200, "cpu_time": 200, "memory": "2G"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, guest_kind: str) -> Path:
    """A folder of the packages. Their wheels are downloaded once, and stored in pytest's cache."""
    version = "{}.{}".format(*find_guest().version)
    folder = unpacked(request, tmp_path_factory, "pictures", version, WANTED)
    words = [find_guest().executable, "-m", "compileall", "-q", "-j", "2", "-x", "/tests?/", folder]
    subprocess.run(words, check=True, capture_output=True, timeout=280)
    return folder


@pytest.fixture(scope="module")
def box(packages: Path) -> Iterator[proxybox.Sandbox]:
    with proxybox.Sandbox(packages=[packages], limits=LIMITS, warm=True, preload=["matplotlib.pyplot"]) as box:
        box.run("pass")
        yield box
    zygotepool.close()
    reaper.settle()


@pytest.fixture(scope="module")
def opened_session(box: proxybox.Sandbox) -> Iterator[proxybox.Session]:
    """A session in a copy of a guest that had imported pyplot."""
    with box.session() as session:
        session.exec("import matplotlib.pyplot as plt", echo=True, check=True)
        yield session


@pytest.fixture
def session(opened_session: proxybox.Session) -> proxybox.Session:
    """The same session for all tests, without the figures of other tests: tests run in any order."""
    opened_session.exec("plt.close('all')\nplt.ion()", echo=True, check=True)
    return opened_session


def shown(session: proxybox.Session, code: str, check: bool = True) -> list[Displayed]:
    events: list[Displayed] = []
    session.exec(code, echo=True, on_display=events.append, check=check)
    return events


def pictures(events: list[Displayed]) -> list[str]:
    """Returns the kind of each event with a figure."""
    assert all(event.data["image/png"].startswith(b"\x89PNG") for event in events if "image/png" in event.data)
    return [event.kind for event in events if "image/png" in event.data]


# --- figures ----------------------------------------------------------------------------------------------------------


def test_a_figure_is_shown_when_its_cell_ends(session: proxybox.Session) -> None:
    assert pictures(shown(session, "plt.plot([1, 2, 4]);")) == ["display"]
    (event,) = shown(session, "fig, axes = plt.subplots()\naxes.plot([1, 2]);")
    assert event.data["text/plain"] == "<Figure size 640x480 with 1 Axes>"
    assert shown(session, "plt.get_fignums()")[0].data["text/plain"] == "[]"
    assert shown(session, "plt.get_backend()")[0].data["text/plain"] == "'module://proxybox_inline'"


def test_show_shows(session: proxybox.Session) -> None:
    seen: list[str] = []
    session.exec(
        "for n in range(2):\n    plt.plot([n])\n    plt.show()\n    print(n)", echo=True, check=True,
        on_display=lambda event: seen.append(event.kind), on_stdout=seen.append,
    )  # fmt: skip
    assert seen == ["display", "0\n", "display", "1\n"]


def test_figures_of_a_cell_that_fails_are_shown_and_its_error_is_told(session: proxybox.Session) -> None:
    events: list[Displayed] = []
    result = session.exec("plt.plot([1])\n1 / 0", echo=True, on_display=events.append)
    assert (result.error and result.error.type, pictures(events)) == ("ZeroDivisionError", ["display"])
    result = session.exec("plt.title('$\\\\nothing{$')", echo=True)
    assert (result.error and result.error.type) == "ValueError"
    result = session.exec("plt.title('$\\\\nothing{$')\n1 / 0", echo=True)
    assert (result.error and result.error.type) == "ZeroDivisionError"


def test_figures_of_an_interrupted_cell_are_dropped(session: proxybox.Session) -> None:
    assert shown(session, "plt.plot([1])\nraise KeyboardInterrupt", check=False) == []
    assert shown(session, "plt.get_fignums()")[0].data["text/plain"] == "[]"


def test_without_interaction_only_show_shows(session: proxybox.Session) -> None:
    assert shown(session, "plt.ioff()\nplt.plot([1]);") == []
    assert pictures(shown(session, "plt.show()\nplt.ion();")) == ["display"]


@pytest.mark.parametrize("begun", ["", "%matplotlib inline\n", "%config InlineBackend.figure_format = 'png'\n"])
def test_without_interaction_from_the_first_figure_on(box: proxybox.Sandbox, begun: str) -> None:
    """matplotlib loads the backend when the first figure is made: `ioff` must still be in effect then."""
    with box.session() as session:
        assert shown(session, f"{begun}import matplotlib.pyplot as plt\nplt.ioff()\nplt.plot([1]);") == []
        assert pictures(shown(session, "plt.show()\nplt.ion();\nplt.plot([1]);")) == ["display", "display"]


def test_a_figure_is_a_value(session: proxybox.Session) -> None:
    """As with IPython, a figure that pyplot knows is shown twice: as a value, and when the cell ends."""
    assert pictures(shown(session, "fig, _ = plt.subplots()\nfig")) == ["value", "display"]
    code = "from matplotlib.figure import Figure\nfig = Figure()\nfig.subplots()\nfig"
    assert pictures(shown(session, code)) == ["value"]
    assert [list(event.data) for event in shown(session, "Figure()")] == [["text/plain"]]  # it is empty


def test_formats_of_figures(session: proxybox.Session) -> None:
    (event,) = shown(session, "%config InlineBackend.figure_format = 'retina'\nplt.plot([1]);")
    sides = [int.from_bytes(event.data["image/png"][at : at + 4], "big") for at in (16, 20)]
    assert [event.metadata["image/png"][side] for side in ("width", "height")] == [side // 2 for side in sides]
    (event,) = shown(session, "%config InlineBackend.figure_formats = ['svg']\nplt.plot([1]);")
    assert event.data["image/svg+xml"].startswith(b"<svg")
    code = "import matplotlib_inline.backend_inline as inline\ninline.set_matplotlib_formats('png')\nplt.plot([1]);"
    assert list(shown(session, code)[0].data) == ["text/plain", "image/png"]
    error = session.exec("%config InlineBackend.figure_format = 'pdf'", echo=True).error
    assert error is not None
    assert error.message == "a figure is shown as png, retina, svg, not as 'pdf'"
    assert pictures(shown(session, "plt.plot([1]);")) == ["display"]


def test_another_backend_and_back(session: proxybox.Session) -> None:
    assert shown(session, "plt.switch_backend('agg')\nplt.plot([1]);") == []
    assert pictures(shown(session, "plt.close('all')\n%matplotlib inline\nplt.plot([1]);")) == ["display"]


def test_what_is_saved_is_a_file(box: proxybox.Sandbox) -> None:
    with box.session() as session:
        result = session.exec("import matplotlib.pyplot as plt\nplt.plot([1])\nplt.savefig('plot.png')", echo=True)
        assert result.ok
        assert session.files["plot.png"].startswith(b"\x89PNG")
        assert list(session.files) == ["plot.png"]
    result = box.run(
        "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.savefig('plot.png')\nprint(plt.get_backend())"
    )
    assert (result.stdout, list(result.files)) == ("agg\n", ["plot.png"])


def test_where_nothing_was_imported_before(packages: Path) -> None:
    with proxybox.Sandbox(packages=[packages], limits=LIMITS, warm=False) as box, box.session() as session:
        events = shown(session, "%matplotlib inline\nfrom matplotlib import pyplot\npyplot.plot([1]);")
        assert pictures(events) == ["display"]
        with box.session() as other:
            assert shown(other, "from matplotlib import pyplot\npyplot.ioff()\npyplot.plot([1]);") == []


def test_our_backend_is_chosen_by_its_name(packages: Path) -> None:
    """The policy chooses another backend."""
    given = {"variables": {"MPLBACKEND": "agg"}}
    with (
        proxybox.Sandbox(packages=[packages], limits=LIMITS, warm=False, environment=given) as box,
        box.session() as session,
    ):
        assert shown(session, "import matplotlib.pyplot as plt\nplt.plot([1]);") == []
        code = "plt.close('all')\nplt.switch_backend('module://proxybox_inline')\nplt.plot([1]);"
        assert pictures(shown(session, code)) == ["display"]


def test_where_a_figure_was_made_before(packages: Path) -> None:
    """At that time matplotlib has chosen another backend, because there was no display."""
    words = "import matplotlib.pyplot as plt\nplt.figure()\nplt.close('all')"
    with proxybox.Sandbox(packages=[packages], limits=LIMITS, warm=True, warm_up=words) as box:
        assert box.run("import matplotlib.pyplot as plt\nprint(plt.get_backend())").stdout == "agg\n"
        with box.session() as session:
            assert pictures(shown(session, "import matplotlib.pyplot as plt\nplt.plot([1]);")) == ["display"]
            assert session.eval("plt.get_backend()").value == "module://proxybox_inline"
        with box.session() as session:
            assert shown(session, "import matplotlib.pyplot as plt\nplt.ioff()\nplt.plot([1]);") == []
    zygotepool.close()
    reaper.settle()


# --- Pillow, pandas ---------------------------------------------------------------------------------------------------


def test_a_picture_of_pillow(session: proxybox.Session) -> None:
    (event,) = shown(session, "from PIL import Image\nImage.new('RGB', (8, 8), 'red')")
    assert [kind for kind in event.data if kind != "text/plain"] == ["image/png"]


def test_a_table_and_its_plot(session: proxybox.Session) -> None:
    (event,) = shown(session, "import pandas\ntable = pandas.DataFrame({'a': [1, 2]})\ntable")
    assert event.data["text/plain"].splitlines()[0] == "   a"
    assert "<table" in event.data["text/html"]
    assert shown(session, "table;") == []
    assert pictures(shown(session, "table.plot();")) == ["display"]


# --- on the page ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel(packages: Path, jupyter: Path) -> str:
    from proxybox import cli

    words = ["--name", "data", "--guest", find_guest().executable, "--packages", str(packages)]
    assert cli.main(["kernel", "install", "--user", *words]) == 0
    return "data"


def test_what_the_page_gets(kernel: str) -> None:
    with opened(kernel) as notebook:
        notebook.run("import matplotlib.pyplot as plt, pandas as pd\nfrom IPython.display import display")
        notebook.run("plt.plot([1]);")
        assert [kind for kind, _ in notebook.messages] == ["display_data"]
        assert base64.b64decode(notebook.messages[0][1]["data"]["image/png"]).startswith(b"\x89PNG")
        notebook.run("pd.DataFrame({'a': ['<script>', '$x$']})")
        html = notebook.messages[0][1]["data"]["text/html"]
        assert "<td>&lt;script&gt;</td>" in html
        assert not any(word in html for word in ("style", "class", "border", "<script", "$x"))
        notebook.run("%config InlineBackend.figure_format = 'svg'\nplt.plot([1]);")
        assert notebook.messages[0][1]["data"]["image/svg+xml"].startswith("<svg")
        notebook.run("handle = display(1, display_id=True)\nhandle.update(2)")
        assert notebook.kinds() == ["display_data", "update_display_data"]
        assert len({content["transient"]["display_id"] for _, content in notebook.messages}) == 1


def test_the_example(kernel: str) -> None:
    notebook: Any = nbformat.read(ROOT / "examples/notebook/rain.ipynb", 4)
    NotebookClient(notebook, kernel_name=kernel, timeout=200).execute()
    kinds = [[kind for output in cell.get("outputs", ()) for kind in output["data"]] for cell in notebook.cells]
    assert kinds == [
        [], ["text/html", "text/plain"], ["text/html", "text/plain"], ["image/png", "text/plain"],
        ["image/png", "text/plain"], ["text/html", "text/plain", "image/png", "text/plain"],
    ]  # fmt: skip

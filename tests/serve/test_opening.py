"""Doors of other distributions: found by entry points, imported only when they are named, limited to their paths."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter

from proxybox.policies import PolicyError
from proxybox.serve import opening
from proxybox.serve.config import ServiceConfig
from proxybox.serve.keys import Keys
from proxybox.serve.paths import AccessTable, ServiceDoor
from tests.serve.conftest import serving

ROOT = Path(__file__).parents[2]
#: A door of another system that comes with proxybox, and the paths that it declares.
THEIRS = opening.own_doors()[-1]
THEIR_PATHS = opening.opened((THEIRS,))[1][0].clients
#: Adds a distribution to sys.path: its name, the entry point of its door "tiny", and the source of its module.
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    made = []

    def install(name: str, source: str = "", *, door: str = "tiny", folder: Path | None = None) -> Path:
        site = folder or tmp_path / "site"
        seen = site / f"{name}-1.0.dist-info"
        seen.mkdir(parents=True)
        seen.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        seen.joinpath("entry_points.txt").write_text(f"[{opening.GROUP}]\n{door} = {name}_module:door\n")
        site.joinpath(f"{name}_module.py").write_text(source)
        if folder is None:
            monkeypatch.syspath_prepend(site)
        made.append(f"{name}_module")
        return site

    yield install
    for module in made:
        sys.modules.pop(module, None)


def source_of(clients: tuple[str, ...], path: str = "/tiny/run", **more: tuple[str, ...]) -> str:
    return (
        "from fastapi import APIRouter\nfrom proxybox.serve.interface import ServiceDoor\nrouter = APIRouter()\n"
        f"door = ServiceDoor(router=router, clients={clients}, **{more})\n"
        f"@router.get({path!r})\nasync def get() -> str: return 'tiny'\n"
    )


def refused(*doors: str) -> str:
    with pytest.raises(PolicyError) as caught:
        opening.opened(ServiceConfig(data="/nowhere", doors=doors).doors)
    return str(caught.value)


@pytest.mark.full
def test_the_door_of_the_documentation_is_served_only_when_it_is_named(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "serve-doors.md").read_text().partition("## A door of your own")[2]
    project = tmp_path / "project"
    project.mkdir()
    for name, kind in (("pyproject.toml", "toml"), ("proxybox_tiny.py", "python")):
        (block,) = re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        project.joinpath(name).write_text(block)
    marked = "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\n"
    project.joinpath("proxybox_tiny.py").write_text(marked + project.joinpath("proxybox_tiny.py").read_text())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    site = tmp_path / "site"
    subprocess.run([*pip, "--no-build-isolation", "--target", str(site), str(project)], check=True)
    env = {"PYTHONPATH": str(site)}

    with serving(tmp_path / "unnamed", env=env) as server:
        assert server.http.post("/tiny/run", json={"code": "print(6 * 7)"}).status_code == 404
        assert server.run("print(1)")["stdout"] == "1\n"
    assert not (site / "imported").exists()

    key = Keys(tmp_path / "named" / "data" / "keys.json").add("client")
    with serving(tmp_path / "named", 'doors = ["rest", "tiny"]', env=env) as server:
        answer = server.http.post("/tiny/run", json={"code": "print(6 * 7)"})
        assert (answer.status_code, list(answer.json())) == (401, ["error"])
        server.http.headers["Authorization"] = f"Bearer {key}"
        answer = server.http.post("/tiny/run", json={"code": "print(6 * 7)"})
        assert (answer.status_code, answer.json()) == (200, {"out": "42\n"})
        assert server.http.get("/metrics").status_code == 404


def test_by_default_only_the_doors_of_proxybox_are_open(install: Install) -> None:
    install("other", "raise RuntimeError('imported')")
    assert "tiny" not in ServiceConfig(data="/nowhere").doors
    opening.opened(ServiceConfig(data="/nowhere").doors)
    assert "other_module" not in sys.modules


def test_a_door_that_is_named_has_its_paths(install: Install) -> None:
    install("welcome", source_of(("/tiny/",), health=("/tiny/health",)))
    own, doors = opening.opened(ServiceConfig(data="/nowhere", doors=("tiny", "rest")).doors)
    assert (len(own), len(doors)) == (1, 1)
    table = AccessTable(doors)
    assert table.may_use("client", "/tiny/run")
    assert not table.may_use("operator", "/tiny/run")
    assert table.health == {"/v1/health", "/tiny/health"}
    assert "/tiny/health" not in table.always
    assert not AccessTable().may_use("client", "/tiny/run")


def test_nobody_else_has_the_name_of_a_door_of_proxybox(install: Install) -> None:
    install("evil", "raise RuntimeError('imported')", door=THEIRS)
    _, doors = opening.opened(ServiceConfig(data="/nowhere", doors=(THEIRS,)).doors)
    assert len(doors) == 1
    assert "evil_module" not in sys.modules


def test_a_distribution_of_our_name_that_has_not_the_running_package_opens_nothing(install: Install) -> None:
    site = install("proxybox", "raise RuntimeError('imported')")
    origin = {"url": ROOT.as_uri(), "dir_info": {"editable": True}}
    (site / "proxybox-1.0.dist-info" / "direct_url.json").write_text(json.dumps(origin))
    assert opening.own_doors()[-1] == THEIRS
    assert "tiny" not in opening.own_doors()
    assert "there is no such door" in refused("tiny")
    assert "proxybox_module" not in sys.modules


def test_a_name_that_two_distributions_have_is_refused(install: Install) -> None:
    install("first", source_of(("/tiny/",)))
    install("second", source_of(("/tiny/",)), folder=Path(sys.path[0]))
    assert "two distributions have this door: first, second" in refused("tiny")


def test_the_current_folder_has_no_doors(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install("submitted", source_of(("/tiny/",)), folder=tmp_path / "submission")
    install("proxybox", source_of(("/tiny/",)), folder=folder)  # nor does it define which doors proxybox has
    monkeypatch.chdir(folder)
    for entry in ("", str(folder)):  # as -c and -m do
        monkeypatch.syspath_prepend(entry)
        assert "tiny" not in opening.own_doors()
        assert "there is no such door" in refused("tiny")


@pytest.mark.parametrize(("source", "why"), [
    ("1 / 0", "tiny: broken_module:door cannot be imported: ZeroDivisionError"),
    ("door = 5", "tiny: broken_module:door is no ServiceDoor (proxybox.serve.interface), but int"),
    (source_of(("/tiny",)), "tiny: nobody may use its path /tiny/run: name it in `clients` or `health`"),
    (source_of(("/tiny/", "/v1/sessions")), "tiny: takes the path /v1/sessions of proxybox"),
    (source_of(("/tiny/", *THEIR_PATHS)), f"of {THEIRS}"),
    (source_of(("/tiny/",), health=("/metrics",)), "tiny: takes the path /metrics of proxybox"),
    (source_of(("/tiny/",), health=("/v1/openapi.json",)), "tiny: takes the path /v1/openapi.json of proxybox"),
    (source_of(("/tiny/", "/v1/mine")), "tiny: no other distribution has paths such as /v1/mine"),
    (source_of(("/tiny/",), health=("/v1/",)), "tiny: no other distribution has paths such as /v1/"),
    (source_of(("/",)), 'want paths such as "/jobe/"'),
    (source_of(("/tiny/", "/{rest:path}")), "without parameters"),
    (source_of(("/tiny/",), health=("/v1/{one}",)), "without parameters"),
    (source_of(("/tiny/",), always=("/tiny/run",)), "always: want some of"),
])  # fmt: skip
def test_a_door_that_makes_no_sense_keeps_the_service_from_starting(install: Install, source: str, why: str) -> None:
    install("broken", source)
    assert why in refused("rest", "status", THEIRS, "tiny")


def test_the_doors_of_proxybox_do_not_take_each_other_s_paths() -> None:
    router = APIRouter()
    router.add_api_route("/v1/sandbox/mine", lambda: None)
    assert list(opening._overlaps([router], {"dify": ServiceDoor(router=APIRouter(), clients=("/v1/sandbox/",))})) == [
        "dify: takes the path /v1/sandbox/mine of proxybox"
    ]

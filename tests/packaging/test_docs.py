"""The documents: links that lead somewhere, names and options that exist, examples that run."""

import re
from pathlib import Path

import pytest

from proxybox.cli.arguments import LEARN, PROGRAM, REPL, RUN, TRACE
from proxybox.cli.exits import BY_STATUS
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from proxybox.evaluating import shared
from tools import publicnames

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target, _ in LINK.findall(document.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (document.parent / target).exists(), target


#: Sources whose words name other files. In a checkout proxybox/ has links to the others.
SOURCES = [
    path
    for top in ("controller", "policies", "proxybox")
    for path in sorted((ROOT / top).rglob("*.*"))
    if path.suffix in (".py", ".md", ".c", ".h") and path.resolve() == path
]
PLACES = "controller|policies|proxybox|tests|tools|benchmarks|examples"
OUR_FILE = re.compile(rf"(?<![\w./-])(?:{PLACES})/[\w/]+\.(?:py|c|h|md)\b")


def test_files_that_are_named_exist() -> None:
    """By their whole path. Names of programs in boxes are not looked for."""
    everywhere = [*DOCUMENTS, *SOURCES]
    named = {(str(path.relative_to(ROOT)), name) for path in everywhere for name in OUR_FILE.findall(path.read_text())}
    assert len(named) > 30
    made_up = {"tests/test_it.py", "tests/test_more.py"}  # of exercises
    made_up |= {"tests/oscalls/test_cachestat.py", "tests/policies/test_release.py"}  # of CONTRIBUTING's examples
    made_up |= {"proxybox/teach/writers/tap.py", "tests/cli/test_seed.py", "tests/serve/test_out_of_memory.py"}
    assert sorted((path, name) for path, name in named if not (ROOT / name).exists() and name not in made_up) == []


def test_every_public_name_is_described() -> None:
    """In the sources by a docstring, and in the reference by its place there: `make docs` puts the one to the other."""
    assert list(publicnames.faults()) == []


def test_a_public_name_without_a_description_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import proxybox

    monkeypatch.setattr(proxybox.Deny, "__doc__", None)
    monkeypatch.setattr(publicnames, "REFERENCE", ("docs/api-policies.md", "docs/api-controller.md"))
    found = list(publicnames.faults())
    assert "proxybox.Deny has no docstring" in found
    assert any(fault.startswith("proxybox.run stands in none of ") for fault in found)


def test_what_docstrings_say_of_names_becomes_a_list() -> None:
    pytest.importorskip("griffe", reason="the extra docs is not installed")
    from tools.docstrings import listed

    text = "A file.\n\nname: below\n/box. size, mode: as stat(2) has them: bytes. Raises OSError."
    assert listed(text, {"name", "size", "mode"}) == (
        "A file.\n\n- `name`: below /box.\n- `size`, `mode`: as stat(2) has them: bytes.\n\nRaises OSError."
    )
    assert listed("It tells the name: as text.", {"name"}) == "It tells the name: as text."


#: The pages that docs/README.md leads to.
INDEX = "docs/README.md"


def test_the_index_names_every_document() -> None:
    listed = {(ROOT / "docs" / target).resolve() for target, _ in LINK.findall((ROOT / INDEX).read_text())}
    assert {*DOCUMENTS, ROOT / "controller/README.md"} - listed <= {ROOT / INDEX}


def test_the_site_has_every_document() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].partition("\n\n")[0]
    listed = set(re.findall(r": (\S+\.md)$", nav, re.MULTILINE))
    assert {str(document.relative_to(ROOT)) for document in DOCUMENTS} <= listed
    assert all((ROOT / place).exists() for place in listed)


def test_every_option_of_classroom_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert {flag for flag in _flags_of_classroom() if f"`{flag}" not in text} == set()


def _flags_of_classroom() -> set[str]:
    from proxybox.cli.teaching import classroom_group

    commands = (classroom_group.commands[name] for name in ("new", "regrade"))
    options = (*classroom_group.params, *(option for command in commands for option in command.params))
    return {flag for option in options for flag in option.opts if option.param_type_name == "option"}


def test_every_option_of_reviews_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert {flag for flag in _flags_of_reviews() if f"[{flag}" not in text} == set()


def _flags_of_reviews() -> set[str]:
    from proxybox.cli.committing import commits_group, review

    options = (*review.params, *commits_group.commands["prune"].params)
    return {flag for option in options for flag in option.opts if option.param_type_name == "option"}


def test_every_option_of_guests_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert {flag for flag in _flags_of_guests() if f"{flag} " not in text and f"{flag}`" not in text} == set()


def _flags_of_guests() -> set[str]:
    from proxybox.cli.installing import guests_group

    options = [option for command in guests_group.commands.values() for option in command.params]
    return {flag for option in options for flag in option.opts if option.param_type_name == "option"}


def test_every_option_about_records_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert {flag for flag in _flags_of_records() if f"`{flag}" not in text} == set()


def _flags_of_records() -> set[str]:
    from click import Command

    from proxybox.cli import recording

    commands = [each for each in vars(recording).values() if isinstance(each, Command)]
    options = [option for command in commands for option in command.params if option.param_type_name == "option"]
    return {flag for option in options for flag in option.opts}


def test_no_option_is_documented_that_does_not_exist() -> None:
    options = (*RUN, *TRACE, *LEARN, *REPL, *PROGRAM)
    known = {flag for option in options for flag in option.flags} | _flags_of_classroom() | _flags_of_records()
    known |= _flags_of_reviews() | _flags_of_guests()
    text = (ROOT / "docs" / "cli.md").read_text()
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= known | {"--help", "--sandbox"}  # PyPy's


def test_every_option_of_grade_is_documented() -> None:
    from proxybox.cli.teaching import grade

    text = (ROOT / "docs" / "teaching.md").read_text()
    for option in grade.params:
        if option.param_type_name == "option":
            assert any(f"`{flag}" in text for flag in option.opts), option.name
    others = {"--submission", "--confcutdir", "--assert", "--nthreads", "--only"}  # pytest's, dask's, benchmarks'
    known = {flag for option in grade.params for flag in option.opts} | others
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= known


def test_every_option_of_batch_is_documented() -> None:
    from proxybox.cli.programs import batch_command

    text = (ROOT / "docs" / "batch.md").read_text()
    known = {flag for option in batch_command().params for flag in option.opts if option.param_type_name == "option"}
    assert {flag for flag in known if f"`{flag}" not in text} == set()
    others = {"--nthreads", "--worker-port", "--fast"}  # dask's, and a program's
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= known | others


def test_every_exit_status_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    for status in {*BY_STATUS.values(), 2}:
        assert f"\n| {status} |" in text, status


@pytest.mark.parametrize(
    "name",
    ["sessions.md", "evaluate.md", "async.md", "batch.md", "commits.md", "review.md", "serve-codejail.md", "agents.md"],
)
def test_the_examples_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROXYBOX_WARM", raising=False)
    path = ROOT / "docs" / name
    text = path.read_text()
    names: dict[str, object] = {}
    found = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert found
    try:
        for example in found:
            lines_before = "\n" * (text.count("\n", 0, example.start()) + 1)
            exec(compile(lines_before + example[1], str(path), "exec"), names)
    finally:
        shared.close()
        zygotepool.close()
        reaper.settle()

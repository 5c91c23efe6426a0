"""Options that are passed on: the called function gets the values of the command line."""

import types
from pathlib import Path
from typing import Any

import pytest

from proxybox import cli


class Asked:
    """Stands for a function, and stores the arguments of its last call."""

    def __init__(self) -> None:
        self.arguments: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}

    def __call__(self, *arguments: Any, **named: Any) -> int:
        self.arguments, self.named = arguments, named
        return 0


def test_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="the extra server is not installed")
    run = Asked()
    monkeypatch.setattr("proxybox.serve.running.run", run)
    words = ["serve", "--workers", "3", "--require-keys", "--preload", "json", "--preload", "csv", "--log", "json"]
    assert cli.main(words) == 0
    (config,) = run.arguments
    assert (config.workers, config.require_keys, config.log) == (3, True, "json")
    assert config.languages["python"].preload == ("json", "csv")


def test_classroom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra server is not installed")
    pytest.importorskip("markdown_it", reason="the extra classroom is not installed")
    run = Asked()
    monkeypatch.setattr("proxybox.classroom.running.run", run)
    platforms, site = str(tmp_path / "lti.toml"), "https://school.example"
    assert cli.main(["classroom", "--seats", "7", "--lti", platforms, "--tls", "--embed", site, "--open"]) == 0
    config, manner = run.arguments
    assert (config.seats, config.lti, config.embed, manner.opens) == (7, platforms, (site,), True)


def test_a_course_like_the_one_that_comes_with_it(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra server is not installed")
    pytest.importorskip("markdown_it", reason="the extra classroom is not installed")
    names = []
    for course, more in (("own", []), ("copied", ["--example"])):
        assert cli.main(["classroom", "new", str(tmp_path / course), *more]) == 0
        names.append([path.name for path in (tmp_path / course).iterdir() if path.is_dir()])
    assert (len(names[0]), len(names[1])) == (2, 12)


def test_replay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run, prompt = Asked(), Asked()

    def replay(*arguments: Any, **named: Any) -> Any:
        run(*arguments, **named)
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: True))
        named["on_call"](types.SimpleNamespace(number=1, asked=types.SimpleNamespace(thread=1), stack=list))
        raise OSError("no record")

    monkeypatch.setattr("proxybox.cli.replay.replay_record", replay)
    monkeypatch.setattr("proxybox.cli.replay.as_call", str)
    monkeypatch.setattr("proxybox.cli.replay.at_prompt", prompt)
    words = ["replay", "--guest-library", "/opt/lib", "--at-call", "1", str(tmp_path / "run.pbx")]
    for vi in ([], ["--vi"]):
        assert cli.main([*words, *vi]) == 125
        assert (run.named["guest_library"], prompt.named["vi"]) == ("/opt/lib", bool(vi))

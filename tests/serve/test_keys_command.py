"""`proxybox serve keys`: what it makes, prints and refuses."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("click", reason="the extra cli is not installed")

from proxybox.cli import main
from proxybox.serve.keys import Keys

#: Runs the command; returns its exit status, its output, and its standard error.
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def keys(capsys: pytest.CaptureFixture[str]) -> Command:
    def ask(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["serve", "keys", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return ask


@pytest.mark.parametrize("command", [["list"], ["list", "--json"], ["revoke", "x"], ["rotate", "x"]])
def test_a_folder_that_is_mistyped_is_told(keys: Command, tmp_path: Path, command: list[str]) -> None:
    status, out, said = keys(*command, "--data", str(tmp_path / "typo"))
    assert (status, out, said.count("\n")) == (125, "", 1)
    assert f"{tmp_path}/typo: there is no such folder" in said
    status, out, said = keys(*command, "--keys", str(tmp_path / "typo.json"), "--data", str(tmp_path))
    assert (status, out, said.count("\n")) == (125, "", 1)
    assert f"{tmp_path}/typo.json: there is no such file of keys" in said
    (tmp_path / "serve.toml").write_text('data = "typo"\n')
    status, out, said = keys(*command, "--config", str(tmp_path / "serve.toml"))
    assert (status, out, said.count("\n")) == (125, "", 1)
    assert list(tmp_path.iterdir()) == [tmp_path / "serve.toml"]


def test_a_service_without_keys_has_none(keys: Command, tmp_path: Path) -> None:
    assert keys("list", "--json", "--data", str(tmp_path)) == (0, "[]\n", "")
    status, out, said = keys("list", "--data", str(tmp_path))
    assert (status, out, "there are no keys" in said) == (0, "", True)


def test_a_key_with_all_that_it_may_have(keys: Command, tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    status, out, _ = keys("add", "prometheus", "--scope", "metrics", "--expires", "2d", *data)
    assert status == 0
    found = Keys(tmp_path / "keys.json").find(out.strip())
    assert found is not None
    assert found[0].scope == "metrics"
    assert found[0].expires == pytest.approx(time.time() + 2 * 86_400, abs=60)
    (seen,) = json.loads(keys("list", "--json", *data)[1])
    assert (seen["scope"], seen["is_good"], seen["former_expires"]) == ("metrics", True, None)
    assert "expires" in keys("list", *data)[1]


def test_a_key_expires_when_a_day_begins(keys: Command, tmp_path: Path) -> None:
    assert keys("add", "x", "--expires", "2100-01-31", "--data", str(tmp_path))[0] == 0
    (key,) = Keys(tmp_path / "keys.json").known().values()
    assert key.expires == 4_105_036_800.0


@pytest.mark.parametrize(("words", "status", "said"), [
    (["--expires", "soon"], 2, 'want a duration such as "90d" or "12h", or a day'), (["--expires", "none"], 2, "want"),
    (["--expires", "-1"], 2, "want"), (["--expires", "1e300"], 2, "want"),
    (["--expires", "2001-01-01"], 125, "to come"),
    (["--scope", "all"], 2, "scope"),
])  # fmt: skip
def test_what_makes_no_sense(keys: Command, tmp_path: Path, words: list[str], status: int, said: str) -> None:
    answer = keys("add", "x", *words, "--data", str(tmp_path / "data"))
    assert (answer[0], answer[1]) == (status, "")
    assert said in answer[2]
    assert not (tmp_path / "data").exists()


def test_a_rotated_key_is_shown_with_the_time_of_the_former_one(keys: Command, tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    first = keys("add", "moodle", *data)[1].strip()
    status, out, said = keys("rotate", "moodle", "--grace", "1h", *data)
    assert status == 0
    assert "the former one is good until" in said
    known = Keys(tmp_path / "keys.json")
    assert known.find(first) is not None
    assert known.find(out.strip()) is not None
    assert "its former secret is good until" in keys("list", *data)[1]
    seen = json.loads(keys("rotate", "moodle", "--grace", "0", "--json", *data)[1])
    assert known.find(out.strip()) is None
    assert known.find(seen["key"]) is not None
    listed = keys("list", "--json", *data)[1]
    assert not [secret for secret in (first, out.strip(), seen["key"]) if secret.split("_", 2)[2] in listed]
    assert keys("rotate", "moodle", "--grace", "long", *data)[0] == 2

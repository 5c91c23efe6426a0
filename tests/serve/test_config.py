"""The configuration of a service, and the messages for wrong ones."""

from pathlib import Path

import pytest

from proxybox.policies import PolicyError
from proxybox.serve.config import ServiceConfig, address_of, load_config


def _load(folder: Path, text: str) -> ServiceConfig:
    file = folder / "serve.toml"
    file.write_text(text)
    return load_config(file)


def test_what_is_the_case_when_nothing_is_said(tmp_path: Path) -> None:
    config = _load(tmp_path, 'data = "kept"')
    assert config.address == ("127.0.0.1", 8000)
    assert config.is_local
    assert list(config.policies) == ["default", "strict"]
    assert list(config.languages) == ["python"]
    assert config.keys_file == str(tmp_path / "kept" / "keys.json")
    assert config.database_url == f"sqlite:///{tmp_path}/kept/proxybox.sqlite"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text("[limits]\nwall_time = 3\n")
    config = _load(
        tmp_path,
        """
        data = "kept"
        [policies]
        lab = "lab.toml"
        own = { extends = "lab.toml", limits = { cpu_time = 1 } }
        [languages.data]
        packages = ["requirements.txt", "/opt/more"]
        guest = "./python"
        """,
    )
    assert config.policies["lab"].limits.wall_time == 3
    assert (config.policies["own"].limits.wall_time, config.policies["own"].limits.cpu_time) == (3, 1)
    language = config.languages["data"]
    assert language.packages == (str(tmp_path / "requirements.txt"), "/opt/more")
    assert language.guest == str(tmp_path / "./python")


@pytest.mark.parametrize(("text", "said"), [
    ("lissten = 1", "lissten: there is no such key, did you mean listen"),
    ('listen = "8000"', "listen: want an address"),
    ("workers = 0", "workers: want 1 to 1,024 processes"),
    ("[limits]\nbodyy = 1", "limits.bodyy: there is no such key"),
    ('[limits]\nbody = "2G"', "limits.body: want a size from 1K to 1G"),
    ('[limits]\nrecord = "1G"', "limits.record: want a size from 64K to 64M"),
    ('[sessions]\nsleep_after = "-1s"', "sessions.sleep_after: want a duration"),
    ('[retention]\nrecords = "1s"', "retention.records: want a duration of at least 1m"),
    ('[retention]\nrecords = "none"', "retention.records: want a duration of at least 1m"),
    ("[retention]\naudit = 1000", "retention.audit: want a size of at least 1M"),
    ('[policies.a]\nextends = "strikt"', "policies.a"),
    ("[policies.a.limits]\nwall_tim = 3", "policies.a.limits.wall_tim: there is no such key"),
    ("[languages.a]\ngest = 'x'", "languages.a.gest: there is no such key"),
    ("[policies]", "policies: want a table of at least one name"),
    ('doors = ["telnet"]', "doors: there is no such door"),
    ("= 1", "not TOML"),
])  # fmt: skip
def test_faults_name_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        _load(tmp_path, text)
    message = str(caught.value)
    assert str(tmp_path / "serve.toml") in message
    assert said.partition(",")[0] in message


def test_all_faults_at_once(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        _load(tmp_path, 'log = "xml"\nworkers = -1\n[limits]\nqueue = "many"')
    assert {problem.key for problem in caught.value.problems} == {"log", "workers", "limits.queue"}


@pytest.mark.parametrize(("text", "address"), [
    ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:8000", ("::1", 8000)), ("host.example:1", ("host.example", 1)),
    ("unix:/run/p.sock", "/run/p.sock"),
])  # fmt: skip
def test_addresses(text: str, address: object) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["", ":80", "host", "host:port", "::1:80", "1.2.3.4:70000", "unix:relative"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        address_of(text)


@pytest.mark.parametrize(("listen", "is_local"), [
    ("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True), ("unix:/x", True),
    ("0.0.0.0:1", False), ("[::]:1", False), ("192.0.2.1:1", False), ("localhost.example:1", False),
])  # fmt: skip
def test_who_can_reach_it(listen: str, is_local: bool) -> None:
    assert ServiceConfig(listen=listen, data="/tmp/x").is_local is is_local

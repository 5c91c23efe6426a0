"""The settings of a classroom, and the messages for settings that make no sense."""

from pathlib import Path

import pytest

from proxybox.classroom.config import ClassroomConfig
from proxybox.policies import PolicyError


def test_nobody_else_reaches_it_when_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    config = ClassroomConfig()
    assert (config.host, config.port, config.tls, config.is_local, config.has_tls) == (
        "127.0.0.1", 8080, "none", True, False,
    )  # fmt: skip
    assert config.data == "/state/proxybox/classroom/example"


@pytest.mark.parametrize(("given", "host", "is_local"), [
    ("lan", "lan", False), ("LAN", "lan", False), ("0.0.0.0", "lan", False), ("::", "lan", False), ("*", "lan", False),
    ("[::1]", "::1", True), ("localhost", "localhost", True), ("FD00:0::2", "fd00::2", False),
    ("Class.School.Example.", "class.school.example", False), ("192.168.1.4", "192.168.1.4", False),
])  # fmt: skip
def test_hosts(given: str, host: str, is_local: bool) -> None:
    config = ClassroomConfig(host=given)
    assert (config.host, config.is_local) == (host, is_local)


def test_each_course_has_data_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    folders = [
        Path(ClassroomConfig(course=str(tmp_path / name)).data) for name in ("a/été 1", "b/été 1", "a/../b/été 1")
    ]
    assert folders[0] != folders[1] == folders[2]
    assert {folder.parent for folder in folders} == {Path("/state/proxybox/classroom")}
    assert folders[0].name.startswith("-t-1-")


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = ClassroomConfig(
        course="course", data="kept", packages=["lib"], tls="files", tls_cert="c.pem", tls_key="k.pem"
    )
    assert [config.course, config.data, *config.packages, config.tls_cert, config.tls_key] == [
        str(tmp_path / name) for name in ("course", "kept", "lib", "c.pem", "k.pem")
    ]


@pytest.mark.parametrize(("given", "key", "said"), [
    ({"host": "two words"}, "host", "want a host name or an address"),
    ({"host": 1}, "host", "want a host name or an address"),
    ({"port": 70_000}, "port", "want a port from 0 to 65,535"),
    ({"port": "8080"}, "port", "want a whole number"),
    ({"data": ""}, "data", "want a path on the host"),
    ({"tls": "yes"}, "tls", "not one of the choices"),
    ({"tls": "files"}, "tls", "needs both tls_cert and tls_key"),
    ({"tls": "self", "tls_cert": "/a", "tls_key": "/b"}, "tls", "needs both tls_cert and tls_key"),
    ({"tls": "files", "tls_cert": "/a"}, "tls", "needs both tls_cert and tls_key"),
    ({"names": ["http://class.example"]}, "names", "want a host name"),
    ({"names": "class.example"}, "names", "want a list of host names"),
    ({"seats": 0}, "seats", "want 1 to 1,000 seats"),
    ({"prot": 1}, "prot", "there is no such key"),
])  # fmt: skip
def test_faults_are_named(given: dict[str, object], key: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        ClassroomConfig(**given)  # type: ignore[arg-type]
    assert [problem.key for problem in caught.value.problems] == [key]
    assert said in str(caught.value)


def test_all_faults_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        ClassroomConfig(host="", port=-1, seats=0, tls="x")  # type: ignore[arg-type]
    assert {problem.key for problem in caught.value.problems} == {"port", "seats", "tls"}


@pytest.mark.parametrize(("host", "is_own"), [
    ("127.0.0.1", True), ("[::1]", True), ("192.168.1.4", True), ("localhost", True), ("LOCALHOST.", True),
    ("class.example", True), ("evil.example", False), ("class.example.evil.example", False), ("", False),
    ("127.0.0.1.evil.example", False), ("lan", False),
])  # fmt: skip
def test_names_that_others_control_are_not_its_own(host: str, is_own: bool) -> None:
    assert ClassroomConfig(host="lan", names=["class.example"]).answers_to(host) is is_own


def test_a_user_without_a_home_names_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxybox.classroom.config.state_folder", lambda name: None)
    with pytest.raises(PolicyError, match="data: want a folder"):
        ClassroomConfig()
    assert ClassroomConfig(data="/kept").data == "/kept"

"""The caller's own indexes, in pip's and uv's variables and files."""

import os
from pathlib import Path

import pytest

from proxybox.errors import PackagesError
from proxybox.packages.indexes import Indexes, configured


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without configuration, and an environment without variables of installers."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (".config/pip", ".config/uv", ".pip"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def nothing() -> Indexes:
    """The machine's configuration for all users, which the tests see, too."""
    return configured()


def test_variables(home: Path, nothing: Indexes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip/")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://a/ https://b/")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{home} https://links/")
    assert configured() == Indexes(
        default="https://pip/", extra=("https://a/", "https://b/"), folders=(str(home), "https://links/"),
    ).over(nothing)  # fmt: skip
    monkeypatch.setenv("UV_DEFAULT_INDEX", "mine=https://uv/?a=b")
    monkeypatch.setenv("UV_INDEX", "https://c/ d=https://d/")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    found = configured()
    assert found.default == "https://uv/?a=b"
    assert found.extra[:4] == ("https://c/", "https://d/", "https://a/", "https://b/")
    assert found.is_none


def test_files(home: Path, nothing: Indexes, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".pip/pip.conf").write_text(
        "[global]\nindex-url = https://old/\nextra_index_url =\n  https://a/\n  https://b/\n"
    )
    assert configured() == Indexes(default="https://old/", extra=("https://a/", "https://b/")).over(nothing)
    (home / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = https://user/\n[install]\nindex-url = https://its/\n"
    )
    assert configured().default == "https://its/"
    (home / ".config/uv/uv.toml").write_text(
        'find-links = ["/wheels"]\n'
        '[[index]]\nname = "x"\nurl = "https://x/"\n'
        '[[index]]\nurl = "https://y/"\ndefault = true\n'
        '[[index]]\nurl = "https://z/"\nexplicit = true\n'
        '[pip]\nextra-index-url = ["https://e/"]\n'
    )
    found = configured()
    assert (found.default, found.extra[:2]) == ("https://y/", ("https://e/", "https://x/"))
    assert found.folders[:1] == ("/wheels",)
    assert "https://z/" not in found.extra
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert "https://a/" not in configured().extra


def test_the_current_folder_has_no_say(home: Path, nothing: Indexes, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "here").mkdir()
    monkeypatch.chdir(home / "here")
    Path("uv.toml").write_text('index-url = "https://evil/"\n')
    Path("pip.conf").write_text("[global]\nindex-url = https://evil/\n")
    for name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE"):
        monkeypatch.setenv(name, {"PIP_CONFIG_FILE": "pip.conf", "UV_CONFIG_FILE": "uv.toml"}[name])
    assert configured() == nothing


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (".config/uv/uv.toml", "index-url = ", "uv.toml: Invalid value"),
        (".config/uv/uv.toml", "index-url = 1", "uv.toml: 1: want the address of an index"),
        (".config/uv/uv.toml", 'index-url = "ftp://x/"', "want https://HOST/"),
        (".config/uv/uv.toml", "x = " + "[" * 5000, "uv.toml: "),
        (".config/pip/pip.conf", "index-url = https://x/\n", "pip.conf: File contains no section headers"),
        (".config/pip/pip.conf", "[global]\nindex-url = https://x/ y\n", "want https://HOST/"),
        (".config/pip/pip.conf", "[global]\nindex-url = https://${X}/\n", "variables are not filled in"),
    ],
)
def test_what_makes_no_sense_is_told(home: Path, name: str, text: str, reason: str) -> None:
    (home / name).write_text(text)
    with pytest.raises(PackagesError, match=reason):
        configured()

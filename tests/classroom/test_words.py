"""The texts that people read, in their language."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("babel", reason="the extra classroom is not installed")

from babel.messages import Catalog, Message

from proxybox.classroom import words
from proxybox.classroom.words import LANGUAGES, Words, catalogue_file, negotiate
from tools import words as tool

TRANSLATED = sorted({*LANGUAGES} - {words.SOURCE})
#: Placeholders {name}, %(name)s and %s, and tags.
PLACEHOLDER = re.compile(r"\{[a-z_]*\}|%\([a-z_]+\)[sd]|%[sd%]|<[^>]*>")


@pytest.fixture(scope="module")
def source() -> Catalog:
    return tool.texts()


def forms(texts: object) -> tuple[str, ...]:
    return tuple(texts) if isinstance(texts, tuple | list) else (str(texts),)


def test_there_are_four_languages() -> None:
    assert LANGUAGES == {"en": "English", "de": "Deutsch", "es": "Español", "fr": "Français"}


@pytest.mark.parametrize("language", TRANSLATED)
def test_nothing_lacks_a_translation(language: str, source: Catalog) -> None:
    catalogue = tool.updated(language, source)
    assert [message.id for message in tool.missing(catalogue)] == [], "translate it: make words"


def test_no_two_languages_say_the_same() -> None:
    """A text that was copied from another language's catalogue still lacks a translation."""
    said: dict[object, list[str]] = {}
    for language in TRANSLATED:
        for message in words._catalogue(language):
            text = forms(message.string)
            if message.id and " " in PLACEHOLDER.sub("", text[0]).strip():
                said.setdefault((message.id, text), []).append(language)
    assert {text: languages for text, languages in said.items() if len(languages) > 1} == {}


@pytest.mark.parametrize("language", TRANSLATED)
def test_catalogues_have_the_texts_of_the_sources_and_where_they_stand(language: str, source: Catalog) -> None:
    def places(catalogue: Catalog) -> dict[object, set[str]]:
        return {message.id: {file for file, _ in message.locations} for message in catalogue if message.id}

    assert places(words._catalogue(language)) == places(source), "make words"


@pytest.mark.parametrize("language", TRANSLATED)
def test_translations_have_the_same_placeholders(language: str) -> None:
    def differs(message: Message) -> bool:
        wanted = [sorted(PLACEHOLDER.findall(text)) for text in forms(message.id)]
        return any(sorted(PLACEHOLDER.findall(text)) not in wanted for text in forms(message.string))

    assert [message.id for message in words._catalogue(language) if message.id and differs(message)] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_translations_end_and_begin_as_their_texts_do(language: str) -> None:
    """Scripts join texts: a missing space, colon or ellipsis would be visible."""

    def edges(text: str) -> tuple[bool, str]:
        end = re.search(r"(\.{3}|…|[.:?!]|\s)?$", text)
        return text[:1].isspace(), (end[0] if end else "").replace("…", "...")

    wrong = [
        text
        for message in words._catalogue(language)
        for text in forms(message.string)
        if message.id and edges(text) not in map(edges, forms(message.id))
    ]
    assert wrong == []


@pytest.mark.parametrize(("cookie", "accept", "language"), [
    (None, "", "en"), ("fr", "de", "fr"), ("xx", "de", "de"), ("../../etc", "", "en"), (None, "de-AT,de;q=0.9", "de"),
    (None, "it, es;q=0.8, fr;q=0.9", "fr"), (None, "de;q=0, es;q=0.1", "es"), (None, "fr;q=x, es", "es"),
    (None, "EN-us,de", "en"), (None, "de;q=nan," * 5_000, "en"), ("", "*", "en"), (None, "fr;q=0.2, *;q=0.9", "fr"),
])  # fmt: skip
def test_which_language_a_page_is_in(cookie: str | None, accept: str, language: str) -> None:
    assert negotiate(cookie, accept) == language


@pytest.fixture
def invented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A catalogue of Polish, which has four plural categories."""
    monkeypatch.setattr(words, "FOLDER", tmp_path)
    file = catalogue_file("pl")
    file.parent.mkdir(parents=True)
    file.write_text(
        'msgid ""\nmsgstr ""\n"Language: pl\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n'
        '"Plural-Forms: nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);\\n"\n\n'
        '#: proxybox/classroom/static/a.js\nmsgid "{count} test"\nmsgid_plural "{count} tests"\n'
        'msgstr[0] "{count} test."\nmsgstr[1] "{count} testy"\nmsgstr[2] "{count} testów"\n\n'
        '#: proxybox/classroom/static/a.js\nmsgid "Run"\nmsgstr "Uruchom"\n\n'
        '#: proxybox/classroom/static/a.js\nmsgid "Stop"\nmsgstr ""\n\n'
        '#: proxybox/classroom/pages/a.html\nmsgid "Join"\nmsgstr "Dołącz"\n',
        encoding="utf-8",
    )
    yield "pl"
    for cached in (words._catalogue, words._texts, words._messages):
        cached.cache_clear()


def test_scripts_get_what_they_use_with_all_plural_forms(invented: str) -> None:
    assert Words(invented).messages() == {
        "{count} test": {
            "one": "{count} test.", "few": "{count} testy", "many": "{count} testów", "other": "{count} testów",
        },
        "Run": "Uruchom",
    }  # fmt: skip


def test_templates_get_texts_and_what_is_missing_is_english(invented: str) -> None:
    polish = Words(invented)
    assert [polish.gettext(text) for text in ("Join", "Stop", "Unheard of")] == ["Dołącz", "Stop", "Unheard of"]
    assert [polish.ngettext("{count} test", "{count} tests", count) for count in (1, 2, 5, 22)] == [
        "{count} test.", "{count} testy", "{count} testów", "{count} testy",
    ]  # fmt: skip
    assert polish.direction == "ltr"


def test_english_needs_no_catalogue() -> None:
    english = Words("en")
    assert (english.gettext("Run"), english.ngettext("{n} a", "{n} b", 2), english.messages()) == ("Run", "{n} b", {})

"""Translations of the pages: gettext's catalogues, without a build step.

    proxybox/classroom/locale/de/LC_MESSAGES/classroom.po

The sources contain the English texts. `make words` (tools/words) finds them and updates the catalogues.
Source: https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html
"""

import functools
import gettext
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

try:
    from babel import Locale
    from babel.messages import Catalog, Message
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po
except ModuleNotFoundError as error:
    raise ImportError(f"the classroom needs {error.name}: pip install 'proxybox[classroom]'") from error

#: A text, or the forms of a counted one by the categories of https://unicode.org/reports/tr35/tr35-numbers.html.
Forms: TypeAlias = str | dict[str, str]

FOLDER: Final = Path(__file__).with_name("locale")
DOMAIN: Final = "classroom"
SOURCE: Final = "en"
#: The end of the location of texts in templates. Scripts do not show these; they show the texts of Python files.
_TEMPLATES: Final = ".html"
#: Counts that belong to different plural categories in some language.
_COUNTS: Final = (*range(200), 1_000, 1_000_000)
#: The most characters of Accept-Language that are read.
_MOST: Final = 1_000


def catalogue_file(language: str) -> Path:
    """Returns the path of a language's catalogue, whether it exists or not."""
    return FOLDER / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def _languages() -> dict[str, str]:
    """The available languages, by their own names."""
    codes = sorted(folder.name for folder in FOLDER.iterdir() if catalogue_file(folder.name).is_file())
    return {code: (Locale.parse(code).get_language_name(code) or code).capitalize() for code in (SOURCE, *codes)}


LANGUAGES: Final[Mapping[str, str]] = _languages()


def N_(text: str) -> str:  # noqa: N802 - gettext's own name for it
    """Returns a text unchanged, and marks it for translation later, when the language is known."""
    return text


def negotiate(cookie: str | None, accept: str) -> str:
    """Returns the code of the language for a page. cookie: the user's choice. accept: Accept-Language (RFC 9110)."""
    if cookie is not None and cookie in LANGUAGES:
        return cookie
    wanted: list[tuple[float, str]] = []
    for part in accept[:_MOST].lower().split(","):
        name, _, quality = part.partition(";q=")
        try:
            wanted.append((float(quality or 1), name.strip().partition("-")[0]))
        except ValueError:
            continue
    known = (name for share, name in sorted(wanted, key=lambda each: -each[0]) if share > 0 and name in LANGUAGES)
    return next(known, SOURCE)


class Words:
    """The texts in one of LANGUAGES. Missing texts are in English."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.direction = Locale.parse(language).text_direction
        self._texts = _texts(language)

    def gettext(self, text: str) -> str:
        """Returns the translation of a text."""
        return self._texts.gettext(text)

    def ngettext(self, singular: str, plural: str, count: int) -> str:
        """Returns the translation of a counted text, in the form for this count."""
        return self._texts.ngettext(singular, plural, count)

    def messages(self) -> Mapping[str, Forms]:
        """Returns the texts for scripts, by their English texts; counted texts by the singular, with all forms."""
        return _messages(self.language)


@functools.cache
def _catalogue(language: str) -> Catalog:
    if language == SOURCE:
        return Catalog(SOURCE)
    with open(catalogue_file(language), "rb") as file:
        return read_po(file, language, DOMAIN)


@functools.cache
def _texts(language: str) -> gettext.NullTranslations:
    compiled = io.BytesIO()
    write_mo(compiled, _catalogue(language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


@functools.cache
def _messages(language: str) -> Mapping[str, Forms]:
    return {
        message.id if isinstance(message.id, str) else message.id[0]: _forms(message, language)
        for message in _catalogue(language)
        if message.id and message.string and any(not file.endswith(_TEMPLATES) for file, _ in message.locations)
    }


def _forms(message: Message, language: str) -> Forms:
    if isinstance(message.id, str):
        return str(message.string)
    category, texts = Locale.parse(language).plural_form, _texts(language)
    singular, plural = message.id
    # The first count of a category gives its form; "other" is the form of large numbers if no whole number has it.
    counts = {category(count): count for count in reversed(_COUNTS)}
    return {name: texts.ngettext(singular, plural, count) for name, count in {"other": 1_000, **counts}.items()}

#!/usr/bin/env python3
"""Updates the classroom's catalogues (proxybox/classroom/locale) with the texts of its sources: `make words`.

usage: tools/words.py [--missing]

New texts are added without a translation, and texts that no longer exist are removed. --missing: prints the texts
without a translation, and changes nothing. Texts are the arguments of _() and ngettext() and the content of {% trans %}
in templates, the arguments of t() and n() in scripts, and those of N_() and the details of Refusal() in Python.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages import Catalog, Message
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

from proxybox.classroom.words import DOMAIN, LANGUAGES, SOURCE, catalogue_file

ROOT = Path(__file__).resolve().parent.parent
CLASSROOM = ROOT / "proxybox" / "classroom"
#: The files in the classroom's folder that are read, babel's method for them, and the functions that have texts.
READ = (
    ("*.py", "python", {"N_": None, "Refusal": (2,)}),
    ("[dl]*/*.py", "python", {"N_": None, "Refusal": (2,)}),  # doors and lti
    ("pages/*.html", "jinja2.ext:babel_extract", {"_": None, "gettext": None, "ngettext": (1, 2)}),
    ("static/*.js", "javascript", {"t": None, "n": (1, 2)}),
    ("static/[!v]*/**/*.js", "javascript", {"t": None, "n": (1, 2)}),  # not vendor
)
_OPTIONS = {"extensions": "jinja2.ext.i18n", "trimmed": "true", "silent": "false"}
_WIDTH = 120


def texts() -> Catalog:
    """Returns all texts of the sources, each with the files that contain it."""
    found = Catalog(charset="utf-8")
    for pattern, method, keywords in READ:
        for path in sorted(CLASSROOM.glob(pattern)):
            place = str(path.relative_to(ROOT))
            for line, text, comments, _ in extract_from_file(
                method, path, keywords, ("words:",), _OPTIONS, strip_comment_tags=True
            ):
                found.add(text, locations=[(place, line)], auto_comments=comments)
    return found


def updated(language: str, source: Catalog) -> Catalog:
    """Returns the catalogue of a language, with the texts of the sources and no others."""
    path = catalogue_file(language)
    with open(path, "rb") as file:
        catalogue = read_po(file, language, DOMAIN)
    made = catalogue.creation_date
    catalogue.update(source, no_fuzzy_matching=True, update_header_comment=False)
    catalogue.creation_date = made  # otherwise each run changes the file
    catalogue.project, catalogue.version, catalogue.msgid_bugs_address = "proxybox", "classroom", ""
    catalogue.obsolete.clear()
    return catalogue


def missing(catalogue: Catalog) -> Iterator[Message]:
    """Yields the texts without a translation, or without one of its forms."""
    for message in catalogue:
        forms = message.string if isinstance(message.string, tuple | list) else (message.string,)
        if message.id and not (forms and all(forms)):
            yield message


def main(words: list[str]) -> int:
    if words not in ([], ["--missing"]):
        print(__doc__, file=sys.stderr)
        return 2
    source, lacking = texts(), 0
    for language in LANGUAGES:
        if language == SOURCE:
            continue
        catalogue = updated(language, source)
        for message in missing(catalogue):
            lacking += 1
            print(f"{language}: {message.id!r} ({', '.join(file for file, _ in message.locations)})")
        if not words:
            with open(catalogue_file(language), "wb") as file:
                write_po(file, catalogue, width=_WIDTH, sort_output=True, include_lineno=False)
    return 1 if lacking and words else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

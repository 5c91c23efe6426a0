"""The meaning of file names in the downloads of Moodle, Canvas and Gradescope.

Moodle       Ada Lovelace_4711_assignsubmission_file/solution.py, or the same with _ in the place of the last /.
             4711 is what the grading worksheet calls "Participant 4711".
Canvas       lovelaceada_LATE_4711_90210_solution.py: the name by which Canvas sorts, in small letters and without
             signs; LATE only where it is; the numbers of the user and of the attachment. An anonymous one has
             anon_Ab1cD instead of the name and the user's number. Without an attachment: ..._4711_text.html.
Gradescope   folders that submission_metadata.yml describes.
"""

import datetime
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from proxybox.teach.archives import SubmissionError
from proxybox.teach.shown import one_line

#: Gradescope's metadata of its folders, in YAML as Ruby writes it: some megabytes for a large class with verbose tests.
#: A longer file is refused: YAML takes a second for each megabyte.
METADATA: Final = "submission_metadata.yml"
_MOST_METADATA = 16 << 20
_MOODLE = re.compile(r"\A(?P<name>[^/]+?)_(?P<id>\d{1,18})_assignsubmission_(?:file|onlinetext)(?:_|$)")
_CANVAS = re.compile(
    r"\A(?:(?P<name>[^/]{1,255}?)_)??(?P<late>LATE_)?(?P<id>\d{1,18}|anon_[0-9A-Za-z]{1,20})_"
    r"(?:(?P<attachment>\d{1,18})_(?P<file>(?s:.+))|(?P<kind>text|link)\.html)\Z"
)
#: The suffix that Canvas adds to the name of a file that was handed in again. Python cannot import a file with such a
#: name.
_AGAIN = re.compile(r"-\d{1,4}(?=\.(?:py|ipynb|zip)\Z)")


@attrs.frozen(kw_only=True)
class Named:
    """The parts of a name in a platform's download.

    student: the author. id: the platform's number for the author. file: the rest of the name; empty for a folder. late:
    whether the platform says that it came late.
    """

    student: str
    id: str
    file: str = ""
    late: bool = False


def moodle(name: str) -> Named | None:
    """Parses a name in a download of Moodle; None if it is not one of Moodle's."""
    found = _MOODLE.match(name)
    return found and Named(student=found["name"], id=found["id"], file=name[found.end() :])


def canvas(names: Iterable[str], others: Iterable[str] = ()) -> Mapping[str, Named]:
    """Parses the names in a download of Canvas; empty if it is not a download of Canvas.

    names: all of them must be Canvas's, and each attachment must occur once. others: these may be Canvas's.
    """
    needed = [_CANVAS.match(name) for name in names]
    found = [each for each in (*needed, *map(_CANVAS.match, others)) if each is not None]
    attachments = [each["attachment"] for each in found if each["attachment"]]
    if None in needed or not needed or len(attachments) != len(set(attachments)):
        return {}
    taken = {(each["id"], each["file"]) for each in found}
    return {each.string: _of_canvas(each, taken) for each in found}


def _of_canvas(found: re.Match[str], taken: Collection[tuple[str, str]]) -> Named:
    file = found["file"] or f"{found['kind']}.html"
    first = _AGAIN.sub("", file)
    if (found["id"], first) in taken:  # the student has handed in both files
        first = file
    return Named(student=found["name"] or found["id"], id=found["id"], file=first, late=bool(found["late"]))


# --- Gradescope -------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class GradescopeMetadata:
    """Gradescope's metadata of a folder; missing values are None, or empty."""

    student: str | None = None
    id: str = ""
    time: datetime.datetime | None = None


def gradescope(folder: Path) -> Mapping[str, GradescopeMetadata]:
    """The metadata of the folders beside the file of metadata. Raises SubmissionError if it cannot be read."""
    path = folder / METADATA
    said = _yaml(path) if path.is_file() else None
    if not isinstance(said, dict):
        return {}
    return {name: _told(of) for name, of in said.items() if isinstance(of, dict)}


def _told(said: Mapping[str, object]) -> GradescopeMetadata:
    first = next(iter(_people(said.get(":submitters"))), {})
    return GradescopeMetadata(
        student=_text(first.get(":name")) or None, id=_text(first.get(":sid")), time=_created(said)
    )


def _people(said: object) -> Sequence[Mapping[str, object]]:
    """The students who have handed it in together, and have a name."""
    people = said if isinstance(said, list) else []
    return [each for each in people if isinstance(each, dict) and _text(each.get(":name"))]


def _text(said: object) -> str:
    return said.strip() if isinstance(said, str) else ""


def _yaml(path: Path) -> object:
    """The content of a YAML file, only as lists, dicts and strings: no tag makes another object.

    Raises SubmissionError if it is too large or no YAML.
    """
    import yaml

    with path.open("rb") as file:
        data = file.read(_MOST_METADATA + 1)
    if len(data) > _MOST_METADATA:
        raise SubmissionError(f"more than {_MOST_METADATA >> 20} MiB")
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # BaseLoader if PyYAML was built without libyaml
    try:
        return yaml.load(data.decode("utf-8", "replace"), loader)  # noqa: S506 - safer than SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise SubmissionError(one_line(f"no YAML: {getattr(error, 'problem', None) or error}")) from None


def _created(said: Mapping[str, object]) -> datetime.datetime | None:
    """The time of submission; None for a time without a zone, which could mean any zone.

    Ruby writes a space before the zone.
    """
    time = said.get(":created_at")
    try:
        found = datetime.datetime.fromisoformat(re.sub(r" (?=Z|[+-]\d\d:)", "", str(time)))
    except ValueError:  # also for a day that does not exist
        return None
    return found.replace(microsecond=0) if found.tzinfo else None

"""An extension of griffe, which reads docstrings for the site: it turns our form of docstrings into Markdown.

A docstring is a summary line, and then prose. Sentences of the form `name: meaning`, about parameters and fields,
become a list. A class of attrs is shown with the arguments that it takes, an enumeration with its values.
"""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import griffe

#: The most characters of a default that are shown.
SHORT = 40
DUNDER = re.compile(r"(?<![`\w.])__\w+__(?:\.py)?(?![`\w])")


class OurDocstrings(griffe.Extension):
    """Griffe calls this when it has read a package."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        for found in _objects(pkg):
            if found.is_class:
                _give_arguments(found)
            if found.docstring is not None:
                text = DUNDER.sub(r"`\g<0>`", _docstring(found))  # otherwise Markdown shows it as emphasis
                found.docstring.value = listed(text, _names(found)) + _values(found)


def _docstring(found: griffe.Object) -> str:
    """Returns a docstring. That of a policy's class ends with the list of its fields, made from their declarations."""
    if any(str(each.value).startswith("model(") for each in getattr(found, "decorators", ())):
        value = getattr(import_module(found.module.path), found.name)
        return inspect.cleandoc(value.__doc__)
    return found.docstring.value if found.docstring else ""


def listed(text: str, names: set[str]) -> str:
    """Returns a docstring in which the sentences `name: meaning` of these names are a list."""
    if not names:
        return text
    name = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    head = re.compile(rf"(?:^|(?<=[.;:?)] )|(?<=[.;:?)]\n))((?:{name})(?:, (?:{name}))*):\s+")
    paragraphs = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        before, *parts = head.split(paragraph)
        items = [
            f"- {', '.join(f'`{each}`' for each in words.split(', '))}: " + " ".join(meaning.split())
            for words, meaning in zip(parts[::2], parts[1::2], strict=True)
        ]
        list_of_them, raises = _without_raises("\n".join(items))
        paragraphs += [each for each in (before.rstrip(), list_of_them, raises) if each]
    return "\n\n".join(paragraphs)


def _without_raises(items: str) -> tuple[str, str]:
    """Returns a list without the sentence "Raises ..." behind its last item, and that sentence."""
    head, word, tail = items.rpartition(". Raises ")
    return (f"{head}.", f"Raises {tail}") if word and "\n" not in tail else (items, "")


def _values(found: griffe.Object) -> str:
    if not isinstance(found, griffe.Class) or not any("Enum" in str(base) for base in found.bases):
        return ""
    values = [f"`{name} = {member.value}`" for name, member in found.members.items() if member.is_attribute]
    return f"\n\nValues: {', '.join(values)}."


def _objects(found: griffe.Object) -> Iterator[griffe.Object]:
    yield found
    for member in found.members.values():
        if isinstance(member, griffe.Object):
            yield from _objects(member)


def _names(found: griffe.Object | griffe.Alias) -> set[str]:
    if found.is_function:
        own = {parameter.name.lstrip("*") for parameter in found.parameters}
        return own | {"options", "policy_fields"} - {"self", "cls"}
    if found.is_class:
        fields = {name for name, member in found.all_members.items() if member.is_attribute}
        init = found.all_members.get("__init__")
        return fields | (_names(init) if isinstance(init, griffe.Function | griffe.Alias) else set())
    return set()


def _give_arguments(found: griffe.Object) -> None:
    """Adds an __init__ with its parameters to a class of attrs, whose source has none."""
    if "__init__" in found.members or not any("attrs." in str(each.value) for each in found.decorators):
        return
    try:
        value = getattr(import_module(found.module.path), found.name)
        signature = inspect.signature(value)
    except (AttributeError, ImportError, ValueError):  # it is nested, or in a package that an extra installs
        return
    parameters = [
        griffe.Parameter(
            name,
            annotation=_annotation(found, name),
            kind=griffe.ParameterKind[parameter.kind.name.lower()],
            default=_default(parameter),
        )
        for name, parameter in signature.parameters.items()
    ]
    init = griffe.Function("__init__", parameters=griffe.Parameters(griffe.Parameter("self"), *parameters))
    found.set_member("__init__", init)


def _annotation(found: griffe.Object, name: str) -> Any:
    member = found.members.get(name)
    return member.annotation if isinstance(member, griffe.Attribute) else None


def _default(parameter: inspect.Parameter) -> str | None:
    if parameter.default is inspect.Parameter.empty:
        return None
    text = repr(parameter.default)
    return text if len(text) <= SHORT and not text.startswith("<") and text != "NOTHING" else "..."

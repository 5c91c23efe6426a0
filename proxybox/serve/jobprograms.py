"""The programs and files of jobs, as `Sandbox` takes them."""

import base64
from collections.abc import Mapping
from typing import Any

import attrs

from proxybox import argumentchecks
from proxybox.errors import PolicyError
from proxybox.program import MAIN, Program
from proxybox.serve.workerjobs import Content, RunJob


def program_of(run: RunJob) -> Program:
    """Returns the program of a run: its code, or its files with the path of the one to start."""
    files = files_of(run.files)
    if run.entry is not None:
        program = Program.of_files(files, run.entry, run.args)
        if run.folder:
            program = Program(words=(f"{run.folder}/{run.entry}", *program.words[1:]))
        return attrs.evolve(program, words=(*argumentchecks.arguments(run.options), *program.words))
    if run.code is None:
        raise PolicyError("want either code, or files with an entry")
    program = Program.source(run.code, run.args)
    if MAIN in files:
        raise PolicyError(
            f"files: {MAIN!r} is the name of the code itself: give the file another name, or name an entry"
        )
    return attrs.evolve(program, files={**files, **program.files}) if files else program


def files_of(sent: Mapping[str, Content]) -> dict[str, bytes]:
    """Returns files by their paths, in the form that a box takes."""
    return argumentchecks.files({name: data_of(content) or b"" for name, content in sent.items()})


def tree_of(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Returns files by their paths as the tree of a `Mount`."""
    tree: dict[str, Any] = {}
    for path, content in files.items():
        *folders, name = path.split("/")
        folder = tree
        for each in folders:
            folder = folder.setdefault(each, {})
        folder[name] = content
    return tree


def data_of(content: Content | None) -> bytes | None:
    """Returns bytes that were sent as text or in base64; None for None."""
    if content is None:
        return None
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    return base64.b64decode(content["base64"], validate=True)

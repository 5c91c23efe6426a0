"""What copies of proxybox that lack a part must still do: run by test_removing.py.

usage: without.py COPY... Each copy is tried in a process of its own, which begins with the libraries imported, but with
nothing of proxybox. It prints each fault with its copy, and nothing when there is none.
"""

import asyncio
import contextlib
import importlib
import io
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import click  # noqa: F401
import fastapi  # noqa: F401
import httpx
import prometheus_client  # noqa: F401
import rich.console
import rich.table  # noqa: F401
import sqlalchemy  # noqa: F401
import uvicorn  # noqa: F401

#: Modules that are not imported on the trusted side, or only with a library that may be missing here.
_NOT_HERE = ("guest", "classroom/course", "teach/exercises", "teach/template", "agents", "kernel")


def modules(package: Path, folder: Path) -> Iterator[str]:
    """Yields every module of a copy, whose folders may be links to those of the sources."""
    for path in sorted(folder.iterdir()):
        name = path.relative_to(package)
        if str(name).startswith(_NOT_HERE) or path.name in ("__pycache__", "__main__.py"):
            continue
        if path.is_dir() and (path / "__init__.py").exists():
            yield from modules(package, path)
        elif path.suffix == ".py":
            yield ".".join(("proxybox", *name.with_suffix("").parts)).removesuffix(".__init__")


def commands() -> Iterator[str]:
    """Yields the faults of the command line."""
    from proxybox.cli import main

    for words, wanted in ((["--help"], "doctor"), (["serve", "--help"], "--config"), (["doctor"], "seccomp")):
        with contextlib.redirect_stdout(io.StringIO()) as seen:
            status = main(words)
        if status or wanted not in seen.getvalue():
            yield f"proxybox {' '.join(words)}: {status}: {seen.getvalue()}"


async def service(doors: set[str]) -> list[str]:
    """Returns the faults of a service that is started, gets a run, and is ended."""
    from proxybox.serve.app import app
    from proxybox.serve.config import ServiceConfig

    with tempfile.TemporaryDirectory() as folder:
        config = ServiceConfig(
            listen=f"unix:{folder}/socket", data=folder, workers=1, express=False, slots=1, live=1,
            policies={"default": "default"},
        )  # fmt: skip
        if {*config.doors} != doors:
            return [f"the doors are {sorted(config.doors)}, not {sorted(doors)}"]
        application = app(config)
        await application.service.start()
        try:
            await application.service.tried()
            transport = httpx.ASGITransport(app=application)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                answer = await client.post("/v1/run", json={"code": "print(6 * 7)"}, timeout=60)
        finally:
            await application.service.close()
    is_right = answer.status_code == 200 and answer.json()["stdout"] == "42\n"
    return [] if is_right else [f"/v1/run: {answer.status_code}: {answer.text}"]


def tried(copy: str) -> list[str]:
    """Returns the faults of a copy: a folder with the package, its metadata, and a file that names its doors."""
    os.chdir(copy)
    sys.path.insert(0, copy)
    os.environ["PYTHONPATH"] = copy  # for the service's workers
    try:
        for module in modules(Path(copy, "proxybox"), Path(copy, "proxybox")):
            importlib.import_module(module)
        return [*commands(), *asyncio.run(service({*Path("doors").read_text().split()}))]
    except BaseException:
        return [traceback.format_exc()]


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0)), maxtasksperchild=1) as processes:
        for copy, faults in zip(sys.argv[1:], processes.map(tried, sys.argv[1:], chunksize=1), strict=True):
            for fault in faults:
                print(f"{copy}: {fault}")

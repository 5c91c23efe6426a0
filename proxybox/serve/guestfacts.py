"""Facts about the interpreters of the service, which doors report to their clients; each language is asked once."""

import json
from collections.abc import Mapping
from typing import Final
from weakref import WeakKeyDictionary

import attrs

from proxybox.serve.config import ServiceConfig
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service
from proxybox.serve.workerjobs import RunJob
from proxybox.serve.workers import WorkerLost

_ASK: Final = """
import importlib.metadata, json, platform
packages = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
print(json.dumps([platform.python_version(), packages]))
"""


@attrs.frozen(kw_only=True)
class GuestFacts:
    """version: such as "3.11.13". packages: the versions of the installed packages, by name."""

    version: str = "unknown"
    packages: Mapping[str, str] = attrs.field(factory=dict)


_known: WeakKeyDictionary[Service, dict[str, GuestFacts]] = WeakKeyDictionary()


async def facts_of(service: Service, language: str) -> GuestFacts:
    """Returns what the interpreter of a language reports. Raises Refusal when the service has no free line for that."""
    known = _known.setdefault(service, {})
    if language not in known:
        job = RunJob(policy=next(iter(service.config.policies)), language=language, code=_ASK)
        try:
            result = await service.jobs.ask_itself(job)
        except WorkerLost:
            raise Refusal("worker-lost", headers={"Retry-After": "1"}) from None
        try:
            version, packages = json.loads(result["stdout"])
            known[language] = GuestFacts(version=str(version), packages={k: str(packages[k]) for k in sorted(packages)})
        except (ValueError, TypeError):
            return GuestFacts()
    return known[language]


def python3(config: ServiceConfig) -> str:
    """Returns the language that a client means by "python3": the one of that name, or the first."""
    return "python3" if "python3" in config.languages else next(iter(config.languages))

"""For operators: metrics for Prometheus at /metrics, and a page at /.

Where keys are needed, both need a key of their scope; a browser asks for it as a password, with any user name.
"""

import functools
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
from fastapi import APIRouter, Request, Response

import proxybox
from proxybox.serve.asking import caller_by, password, service_of
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service
from proxybox.serve.wiredata import WorkerState

router = APIRouter(include_in_schema=False)

#: No script, no content of other hosts, in no frame (https://www.w3.org/TR/CSP3/).
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def _check(request: Request) -> None:
    try:
        caller_by(request, password(request))
    except Refusal as refusal:
        if refusal.kind == "unauthorized":
            refusal.headers["WWW-Authenticate"] = 'Basic realm="proxybox", charset="UTF-8"'
        raise


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """The counters in Prometheus's text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
    _check(request)
    service = service_of(request)
    counted, looked = service.metrics, await service.look()
    counted.up.set(service.state == "ready")
    for kind, gate in service.jobs.gates.items():
        counted.waiting.labels(kind).set(gate.waiting)
        counted.in_use.labels(kind).set(gate.held)
    asleep = service.sessions.asleep()
    counted.sessions.labels("asleep").set(asleep)
    counted.sessions.labels("awake").set(len(service.sessions) - asleep)
    for policy, language, ready, _ in _pools(looked.values()):
        counted.ready.labels(policy, language).set(ready)
    return Response(counted.text(), media_type=_TEXT)


@router.get("/")
async def page(request: Request) -> Response:
    """Returns a page about the state of the service."""
    _check(request)
    service = service_of(request)
    body = _template().render(**_facts(service, await service.look()))
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    headers["Cross-Origin-Resource-Policy"] = "same-origin"  # a browser that has the password sends it from any site
    return Response(body, media_type="text/html; charset=utf-8", headers=headers)


@functools.cache
def _template() -> jinja2.Template:
    text = (files("proxybox.serve") / "page" / "status.html").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)


def _facts(service: Service, looked: Mapping[int, WorkerState]) -> dict[str, Any]:
    latest = list(service.metrics.latest)
    verdicts = Counter(run["status"] for run in latest)
    asleep = service.sessions.asleep()
    return {
        "version": proxybox.__version__,
        "state": service.state,
        "why": service.why,
        "up": _spoken(time.time() - service.began),
        "workers": [(number, state.pid, state.sessions) for number, state in looked.items()],
        "missing": len(service.jobs.workers.processes) - len(looked),
        "pools": _pools(looked.values()),
        "gates": [(kind, gate.held, gate.lines, gate.waiting) for kind, gate in service.jobs.gates.items()],
        "sessions": {"awake": len(service.sessions) - asleep, "asleep": asleep},
        "verdicts": [(status, count, 100 * count / len(latest)) for status, count in verdicts.most_common()],
        "latencies": _latencies([run["seconds"] for run in latest]),
        "latest": [(run["status"], run["wall"] * 1e3, run["seconds"] * 1e3) for run in reversed(latest[-20:])],
        "columns": [
            (index, 40 * min(1.0, run["seconds"] / max(1e-9, max(each["seconds"] for each in latest))), run["status"])
            for index, run in enumerate(latest)
        ],
    }


def _pools(looked: Iterable[WorkerState]) -> list[tuple[str, str, int, int]]:
    """Returns policy, language, the number of boxes that are ready and the most, of all workers."""
    ready: Counter[tuple[str, str]] = Counter()
    size: Counter[tuple[str, str]] = Counter()
    for state in looked:
        for pool in state.pools:
            ready[pool.policy, pool.language] += pool.ready
            size[pool.policy, pool.language] += pool.size
    return [(policy, language, ready[policy, language], count) for (policy, language), count in sorted(size.items())]


def _latencies(seconds: Sequence[float]) -> list[tuple[str, float]]:
    """Returns percentiles of the latest requests, in milliseconds."""
    if len(seconds) < 2:
        return []
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return [(name, cuts[at] * 1e3) for name, at in (("median", 49), ("95 %", 94), ("99 %", 98))]


def _spoken(seconds: float) -> str:
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86_400
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if hours < 1 else f"{hours:.1f} h" if days < 1 else f"{days:.1f} days"

"""Pages for an operator: metrics and a status page."""

import base64
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxybox.serve.keys import Keys
from tests.serve.conftest import Server, serving


def _metrics(server: Server) -> dict[tuple[str, ...], float]:
    answer = server.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_runs_are_counted_by_how_they_end(server: Server) -> None:
    before = _metrics(server)
    server.run("print(1)")
    server.run("1 / 0")
    session = server.session()
    after = _metrics(server)
    server.http.delete(session)
    counted = {
        key: after[key] - before.get(key, 0)
        for key in (
            ("proxybox_runs_total", "ok"), ("proxybox_runs_total", "error"), ("proxybox_run_wall_seconds_count",),
            ("proxybox_requests_total", "/v1/run", "200"), ("proxybox_request_seconds_count", "/v1/run"),
        )
    }  # fmt: skip
    assert list(counted.values()) == [1, 1, 2, 2, 2]
    assert after["proxybox_ready",] == 1
    assert after["proxybox_sessions", "awake"] == 1
    assert after["proxybox_in_use", "run"] == 0
    assert ("proxybox_pool_ready", "python", "default") in after


def test_paths_that_clients_make_up_are_not_counted_one_by_one(server: Server) -> None:
    for number in range(5):
        server.http.get(f"/made/up/{number}")
    assert not [key for key in _metrics(server) if "/made/up" in str(key)]


def test_the_page_says_how_the_service_does(server: Server) -> None:
    server.run("print('<script>alert(1)</script>')")
    answer = server.http.get("/")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    for said in ("ready", "Latest verdicts", "Boxes that stand ready", "default", "strict"):
        assert said in answer.text
    assert not re.search(r"https?://|<script|src=|@import", answer.text)  # nothing is loaded from elsewhere


def test_they_need_a_key_where_everything_does(tmp_path: Path) -> None:
    with serving(tmp_path, "workers = 1\nslots = 1\nrequire_keys = true\n") as server:
        keys = Keys(server.data / "keys.json")
        key, for_metrics = keys.add("operator", scope="operator"), keys.add("prometheus", scope="metrics")
        assert server.http.get("/metrics", headers={"Authorization": f"Bearer {for_metrics}"}).status_code == 200
        assert server.http.get("/", headers={"Authorization": f"Bearer {for_metrics}"}).status_code == 403
        for path in ("/", "/metrics"):
            refused = server.http.get(path)
            assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic")
            assert server.http.get(path, headers={"Authorization": f"Bearer {key}"}).status_code == 200
            assert server.http.get(path, auth=("anybody", key)).status_code == 200
            assert server.http.get(path, auth=("anybody", "wrong")).status_code == 401
            assert server.http.get(path, headers={"Authorization": "Basic *"}).status_code == 401
        assert base64.b64encode(f"anybody:{key}".encode()).decode() not in server.log.read_text()


@pytest.mark.full
@pytest.mark.skipif(shutil.which("chromium") is None, reason="a real browser is needed: chromium")
def test_the_page_in_a_real_browser(tmp_path: Path) -> None:
    """The page in a browser's DOM shows the state `ready`."""
    with serving(tmp_path, 'listen = "127.0.0.1:0"\nworkers = 1\nslots = 1\n') as server:
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom",
        ]  # fmt: skip
        said = subprocess.run(
            ["chromium", *options, server.url], capture_output=True, text=True, timeout=120, check=False
        )
        assert '<span class="state ready">ready</span>' in said.stdout
        assert server.process.poll() is None

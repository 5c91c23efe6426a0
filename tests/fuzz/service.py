"""Fuzzes the REST interface of a service by its own OpenAPI: `python -m tests.fuzz.service [--examples N]`.

schemathesis makes requests that the description allows, and others. No answer may be a 500, and each must be in the
description. It ends with schemathesis's exit status.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.serve.conftest import serving

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
CONFIG = """
listen = "127.0.0.1:0"
workers = 1
slots = 2
[policies.default]
extends = "default"
limits = { cpu_time = 0.5, wall_time = 3 }
session = { branches = 2 }
[sessions]
share = 100
"""


def main() -> int:
    """Starts a service, runs schemathesis against it, and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=50, help="of each operation (default: 50)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, serving(Path(name), CONFIG) as server:
        command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/v1/openapi.json"]
        more = ["--checks", CHECKS, "--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"]
        return subprocess.run([*command, "--max-examples", str(options.examples), *more], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

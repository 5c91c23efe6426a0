"""A program for the client that openapi-python-client makes; run.py checks it with mypy --strict, and runs it."""

import sys

from service import Client
from service.api.runs import run
from service.models import ProblemDetails, RunOfCode, RunResult

client = Client(base_url=sys.argv[1])
result = run.sync(client=client, body=RunOfCode(code="print('hello')"))
assert isinstance(result, RunResult), result
print(result.status, result.stdout, end="")
refused = run.sync(client=client, body=RunOfCode(code="", policy="none"))
assert isinstance(refused, ProblemDetails), refused
print(refused.status, refused.type_)

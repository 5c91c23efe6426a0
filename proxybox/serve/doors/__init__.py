"""The doors of the service, one file for each protocol: a body in, a run of the service, a body out.

Rules: a door has no way of its own to a box. It uses the `Service`, and turns a `Refusal` into an answer that its
clients know. `rest`, `websocket`, `status` and `mcp` are the service's own. Each other file is for another system: it
imports interface.py alone, nothing imports it, and an entry point in pyproject.toml leads to it (opening.py).
"""

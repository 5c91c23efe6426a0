"""The process of a worker: `python -P .../proxybox/worker.py FD...` (workers.py), or `python -m proxybox.worker FD...`.

FDs are sockets. The first data on the first socket are

    as JSON, the parent's sys.path, and the name of the module that does this worker's task
    pickled, the arguments for the `serve` function of that module, which gets the sockets before them

Rule: until the path has come, only Python's own library is imported. Nothing is ever imported from the current folder,
which may have files of other people.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # -m has put the current folder there

import importlib
import importlib.util
import json
import os
import pickle
from multiprocessing.connection import Connection


def main(fds: list[int]) -> None:
    """Calls the worker's `serve` function, which returns when its sockets are closed."""
    for fd in fds:
        os.set_inheritable(fd, False)  # so that processes started by a worker do not keep its sockets open
    connections = [Connection(fd) for fd in fds]
    try:
        setup = json.loads(connections[0].recv_bytes())
        arguments = connections[0].recv_bytes()
    except (EOFError, OSError):
        return
    own = (entry for entry in sys.path if os.path.isabs(entry) and entry not in setup["path"])
    sys.path[:] = [*setup["path"], *own]
    _load_proxybox(os.path.dirname(os.path.abspath(__file__)))
    serve = importlib.import_module(setup["module"]).serve
    serve(connections, *pickle.loads(arguments))  # noqa: S301 - from our own parent


def _load_proxybox(folder: str) -> None:
    """Imports the package that this file is part of, even if another proxybox comes first on the path."""
    if "proxybox" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location("proxybox", f"{folder}/__init__.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder}: there is no package")
    module = sys.modules["proxybox"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
    os._exit(0)  # threads may still wait for sockets

"""A worker's process: `python -P .../proxybox/worker.py LIFE FD...`, by workers.py, or `python -m proxybox.worker ...`.

LIFE is a pipe that ends with the parent. FDs are sockets; the first brings, before anything else,

    as JSON, the parent's sys.path, and the module that knows what this worker is for
    pickled, the arguments for that module's `serve`, which is given the sockets besides

Rule: until the path has come, only Python's own library is imported, and nothing ever from the current folder, which
may hold anybody's files.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # -m has put the current folder there

import fcntl
import importlib
import importlib.util
import json
import os
import pickle
import select
import signal
from multiprocessing.connection import Connection


def main(life: int, fds: list[int]) -> None:
    """Does what it is for, which ends with its sockets, or with the parent."""
    _end_with(life)
    for fd in fds:
        os.set_inheritable(fd, False)  # what a worker starts does not keep its sockets open
    connections = [Connection(fd) for fd in fds]
    try:
        told = json.loads(connections[0].recv_bytes())
        arguments = connections[0].recv_bytes()
    except (EOFError, OSError):
        return
    own = (entry for entry in sys.path if os.path.isabs(entry) and entry not in told["path"])
    sys.path[:] = [*told["path"], *own]
    _load_proxybox(os.path.dirname(os.path.abspath(__file__)))
    serve = importlib.import_module(told["module"]).serve
    serve(connections, *pickle.loads(arguments))  # noqa: S301 - from our own parent


def _end_with(pipe: int) -> None:
    """When nobody can write to it any more, the kernel sends SIGIO, which ends this process whatever it does: code in C
    that looks at no signal handler and at no socket would go on for ever."""
    os.set_inheritable(pipe, False)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # it has ended before
        os._exit(0)


def _load_proxybox(folder: str) -> None:
    """The package that this file is part of, whatever else of its name is found on the path."""
    if "proxybox" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location("proxybox", f"{folder}/__init__.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder}: there is no package")
    module = sys.modules["proxybox"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    pipe, *sockets = map(int, sys.argv[1:])
    main(pipe, sockets)
    os._exit(0)  # threads of sockets may wait still

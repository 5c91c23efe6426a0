"""The process that reads data of strangers: `python -I .../child.py`, with its task as JSON on standard input.

It confines itself, and then either becomes uv, which finds out what to install (resolving.py), or fetches and unpacks
wheels (fetching.py) or builds of a translated PyPy (tarballs.py). helper.py starts it, and documents the tasks.

Rule: until the path has come, only Python's own library is imported.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any

_PR_SET_PDEATHSIG = 1
#: Bytes of a file, seconds of CPU time, and no core dumps. Then bytes of memory: an index may send an endless answer,
#: and uv stores answers in memory. Resolving takes some hundred MB of address space, depending on the number of uv's
#: threads.
_LIMITS = {resource.RLIMIT_FSIZE: 8 << 30, resource.RLIMIT_CPU: 900, resource.RLIMIT_CORE: 0}
_MEMORY, _MEMORY_OF_PROGRAM = 2 << 30, 3 << 30
#: Files that programs of this system read to use the network: libraries, certificates (the folders above have private
#: keys, too), and the configuration of name resolution.
_SYSTEM = (
    "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share", "/lib", "/lib64", "/etc/ssl/certs",
    "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust", "/etc/crypto-policies",
    "/etc/ca-certificates", "/etc/ld.so.cache", "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf",
    "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/localtime", "/etc/os-release", "/dev/urandom",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/version", "/proc/sys/kernel", "/sys/fs/cgroup",
)  # fmt: skip
_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1")


def main() -> None:
    """Does the task. Standard error and the exit status report errors."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # if the parent process ends
    task = json.load(sys.stdin)
    memory = _MEMORY_OF_PROGRAM if "program" in task else _MEMORY
    for kind, most in {**_LIMITS, resource.RLIMIT_AS: memory}.items():
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    sys.path[:] = task["path"]
    os.chdir(task["folder"])
    os.environ.clear()
    os.environ.update(task["environment"])
    if program := task.get("program"):
        from proxybox.controller.seal.confinement import run

        _confine(task, (program, *_LOADERS))
        run(program, task["arguments"], task["environment"])
    else:  # imports all modules now: after _confine, only Python's own library can be read
        if "archives" in task:
            from proxybox.packages import tarballs as work
        else:
            from proxybox.packages import fetching as work  # type: ignore[no-redef]

        _confine(task)
        work.fetch(task)


def _confine(task: Mapping[str, Any], programs: tuple[str, ...] = ()) -> None:
    from proxybox.controller.seal.confinement import Confinement

    reads = (*_SYSTEM, *task["reads"], *(() if programs else _own_library()))
    writes = (*task["writes"], "/dev/null")
    confinement = Confinement(reads=reads, writes=writes, links=bool(programs), programs=programs)
    if not confinement.enter() and not task["unconfined"]:
        sys.exit(
            "this kernel, or a filter around this process, allows neither Landlock nor seccomp, so that nothing holds "
            "back what is installed. PROXYBOX_INSTALL_UNCONFINED=1 installs without"
        )


def _own_library() -> list[str]:
    """Returns the folders of Python's own library. sys.path also has a script's folder, which may be a home."""
    library = os.path.dirname(os.__file__)
    return [library, *(each for each in sys.path if os.path.basename(each) == "lib-dynload")]


if __name__ == "__main__":
    main()

"""A PostgreSQL server for tests: without TCP, on a socket in a folder of its own, which is removed at the end."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Its data is small, and need not survive a crash.
_OPTIONS = ("listen_addresses=", "fsync=off", "full_page_writes=off", "shared_buffers=16MB", "autovacuum=off")
_READY = b"database system is ready to accept connections"


class Postgres:
    """A server. It ends when its parent process ends (prctl(2), PR_SET_PDEATHSIG)."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        self._begin = ["setpriv", "--pdeathsig", "INT"]
        self._made = 0
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._begin += ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
        self._command("initdb", "--no-sync", "--auth=trust", "--username=proxybox", "--locale=C", "--encoding=UTF8")

    def _command(self, program: str, *options: str) -> None:
        command = [*self._begin, str(self._programs / program), "-D", str(self._folder / "data"), *options]
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True)

    def start(self) -> None:
        """Starts the server, and returns when it accepts connections."""
        command = [*self._begin, str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        options = [part for option in (*_OPTIONS, f"unix_socket_directories={self._folder}") for part in ("-c", option)]
        self._process = subprocess.Popen([*command, *options], cwd=self._folder, stderr=subprocess.PIPE)
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(ready,))
        self._reader.start()
        ready.wait()
        assert self._process.poll() is None, "PostgreSQL has not started"

    def _read(self, ready: threading.Event) -> None:
        """Sets `ready` when the server is ready or has ended."""
        assert self._process.stderr is not None
        with self._process.stderr as said:
            for line in said:
                if _READY in line:
                    ready.set()
        self._process.wait()
        ready.set()

    def stop(self, number: int = signal.SIGINT) -> None:
        """Ends the server and its connections at once; with SIGQUIT it writes nothing more."""
        self._process.send_signal(number)
        self._reader.join()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Stops all processes of the server during the context."""
        stopped = list(self._stop_all())
        try:
            yield
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _stop_all(self) -> Iterator[int]:
        os.kill(self._process.pid, signal.SIGSTOP)  # first, because it starts the others
        yield self._process.pid
        for pid in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            os.kill(int(pid), signal.SIGSTOP)
            yield int(pid)

    def database(self, encoding: str = "") -> str:
        """Returns the URL of an empty schema, which serves as a database; with an encoding, that of a new database."""
        import psycopg

        self._made += 1
        name = f"test{self._made}"
        what = f"database {name} encoding '{encoding}' template template0" if encoding else f"schema {name}"
        with psycopg.connect(host=str(self._folder), user="proxybox", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"create {what}".encode())
        return (
            f"postgresql+psycopg://proxybox@/{name if encoding else 'postgres'}?host={self._folder}"
            f"&options=-csearch_path%3D{'public' if encoding else name}"
        )


def _missing(programs: Path | None) -> str:
    """Returns why no server can run here; "" if one can."""
    if importlib.util.find_spec("psycopg") is None:
        return "the extra postgres is not installed"
    if programs is None:
        return "no PostgreSQL server is installed"
    if shutil.which("setpriv") is None:
        return "setpriv is not installed (util-linux)"
    known = {user.pw_uid: user.pw_name for user in pwd.getpwall()}
    if os.getuid() == 0 and "postgres" not in known.values():
        return "PostgreSQL does not run as root, and there is no user postgres"
    if os.getuid() not in known:
        return "PostgreSQL does not run as a user without a name"
    return ""


def _programs() -> Path | None:
    """Returns the folder of initdb and postgres; Debian has one for each version, outside of PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), default=None)


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """Runs a server for the context. Skips the test when none can run."""
    programs = _programs()
    if why := _missing(programs):
        pytest.skip(why)
    assert programs is not None
    # Not below pytest's own folder, which other users cannot enter; and a socket's path must be short (unix(7)).
    with tempfile.TemporaryDirectory(prefix="postgres-", dir="/tmp", ignore_cleanup_errors=True) as name:
        server = Postgres(Path(name), programs)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)

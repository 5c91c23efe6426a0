"""Has generators make clients of a running service's OpenAPI description, and checks and runs a program with each.

    redocly                 finds no error in the description
    openapi-python-client   its client: hello.py runs with it and passes mypy --strict
    openapi-typescript      its types: hello.ts runs with them (openapi-fetch) and passes tsc --strict

All of it is installed into a folder that is removed afterwards. Needs npm, and reachable registries.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from tests.serve.listening import listening, service

HERE: Final = Path(__file__).resolve().parent
PYTHON_TOOLS: Final = ("openapi-python-client", "mypy", "ruff")
NODE_TOOLS: Final = ("@redocly/cli@2", "openapi-typescript@7", "openapi-fetch", "typescript@5")
_CONFIG: Final = 'listen = "127.0.0.1:0"\ndata = "data"\nworkers = 1\nexpress = false\n'
_TSCONFIG: Final = (
    '{"type": "module"}',
    '{"compilerOptions": {"strict": true, "target": "es2022", "module": "nodenext", "skipLibCheck": true}}',
)
#: Fields with a default may be left out of a request.
_OPTIONS: Final = ("--default-non-nullable", "false")
#: The output of each program: the status of a run, and the refusal of another one.
SAID: Final = "ok hello\n422 urn:proxybox:invalid\n"


def call(*words: object, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Runs a command, and returns its output. Raises SystemExit with the output when the command fails."""
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"clients: {' '.join(map(str, words))} has failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def python_client(folder: Path, url: str) -> str:
    """Makes the client of openapi-python-client, checks hello.py, and returns the output of hello.py."""
    call(sys.executable, "-m", "venv", "tools", cwd=folder)
    call("tools/bin/pip", "install", "--quiet", "--disable-pip-version-check", *PYTHON_TOOLS, cwd=folder)
    made = ("--path", "service.json", "--output-path", "service", "--meta", "none")
    call("tools/bin/openapi-python-client", "generate", *made, cwd=folder, env={"PATH": f"{folder}/tools/bin"})
    shutil.copy(HERE / "hello.py", folder)
    call("tools/bin/mypy", "--strict", "--follow-imports=silent", "hello.py", cwd=folder)
    return call("tools/bin/python", "hello.py", url, cwd=folder)


def typescript_client(folder: Path, url: str) -> str:
    """Makes the types of openapi-typescript, checks hello.ts, and returns the output of hello.ts."""
    call("node_modules/.bin/openapi-typescript", "service.json", "-o", "service.d.ts", *_OPTIONS, cwd=folder)
    shutil.copy(HERE / "hello.ts", folder)
    call("node_modules/.bin/tsc", "--project", ".", cwd=folder)
    return call("node", "hello.js", url, cwd=folder)


def main(tools: Sequence[str] = ("npm", "node")) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"clients: there is no {missing[0]} here: apt install nodejs npm")
    with tempfile.TemporaryDirectory(prefix="clients-") as name:
        folder = Path(name)
        (folder / "serve.toml").write_text(_CONFIG)
        with listening(service(folder / "serve.toml"), folder / "log") as begun:
            (folder / "service.json").write_bytes(urlopen(f"{begun.where}/v1/openapi.json").read())
            for file, text in zip(("package.json", "tsconfig.json"), _TSCONFIG, strict=True):
                (folder / file).write_text(text)
            call("npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_TOOLS, cwd=folder)
            call("node_modules/.bin/redocly", "lint", "service.json", cwd=folder)
            print("clients: redocly finds no error in the description")
            for make, wanted in ((python_client, SAID), (typescript_client, f"{SAID}hello\nok\n")):
                said = make(folder, begun.where)
                if said != wanted:
                    raise SystemExit(f"clients: {make.__name__}: want {wanted!r}, got {said!r}")
                print(f"clients: {make.__name__.replace('_', ' ')}: made, checked and run")


if __name__ == "__main__":
    main()

"""The kernel's specification: what a front end reads to find and start it, kernel.json.

https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

NAME, DISPLAY_NAME = "proxybox", "Python in a box (proxybox)"


@attrs.frozen(kw_only=True)
class Choice:
    """What was chosen for a kernel when it was installed. policy: a preset's name, or the path of a file; "" for the
    kernel's own default. folder: a host folder that stands at /box; "." for that of the notebook."""

    policy: str = ""
    folder: str = ""


def specification(python: str, display_name: str, choice: Choice) -> dict[str, Any]:
    """kernel.json. -P: the notebook's folder, where a kernel starts, has no modules for it. What was chosen stands on
    the command line, for any front end that can start a kernel, and in the metadata, for people and programs."""
    chosen = [word for key, value in attrs.asdict(choice).items() if value for word in (f"--{key}", value)]
    return {
        "argv": [python, "-P", "-m", "proxybox.cli", "kernel", "run", "-f", "{connection_file}", *chosen],
        "display_name": display_name,
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {"debugger": False, "proxybox": attrs.asdict(choice)},
    }


def install(*, name: str, display_name: str, choice: Choice, user: bool, prefix: str | None) -> Path:
    """Writes a specification where front ends look; its folder. Raises OSError, ValueError for a name that is none."""
    text = json.dumps(specification(sys.executable, display_name, choice), indent=1) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kernel.json").write_text(text)
        os.chmod(folder, 0o755)  # noqa: S103 - it is copied with its mode, for other users to read
        return Path(KernelSpecManager().install_kernel_spec(folder, name, user=user, prefix=prefix))


def uninstall(name: str) -> Path:
    """Removes a specification; the folder that it had. Raises NoSuchKernel, OSError, ValueError for one of another
    kernel."""
    folder = Path(KernelSpecManager(ensure_native_kernel=False).get_kernel_spec(name).resource_dir)
    if _choice_in(json.loads((folder / "kernel.json").read_text())) is None:
        raise ValueError(f"{folder} is no kernel of proxybox's")
    shutil.rmtree(folder)
    return folder


def choice_for(connection_file: str) -> Choice:
    """What was chosen for the kernel that a front end starts: it writes its name into the connection file. Raises
    ValueError for what makes no sense."""
    try:
        name = json.loads(Path(connection_file).read_text()).get("kernel_name", "")
        metadata = KernelSpecManager(ensure_native_kernel=False).get_kernel_spec(name).metadata
    except (OSError, ValueError, NoSuchKernel):
        return Choice()
    return _choice_in({"metadata": metadata}) or Choice()


def _choice_in(spec: Mapping[str, Any]) -> Choice | None:
    """The part of a specification that is ours. Raises ValueError for one that makes no sense."""
    own = spec.get("metadata", {}).get("proxybox")
    if own is None:
        return None
    if not isinstance(own, dict) or not own.keys() <= {"policy", "folder"}:
        raise ValueError("kernel.json: metadata.proxybox: want policy and folder")
    if not all(isinstance(value, str) for value in own.values()):
        raise ValueError("kernel.json: metadata.proxybox: want texts for policy and folder")
    return Choice(**own)

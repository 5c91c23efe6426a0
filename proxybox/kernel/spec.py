"""The kernel's specification (kernel.json), which a front end reads to find and start the kernel.

https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs
"""

import importlib.metadata
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
from attrs.validators import deep_iterable, instance_of
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

NAME, DISPLAY_NAME = "proxybox", "Python in a box (proxybox)"
#: The names that jupyter_client allows, except names of dots only.
_NAME = re.compile(r"(?=.*[^.])[A-Za-z0-9._-]+")
#: The names of the options' types in kernel.json.
_WANTED: Final[Mapping[Any, str]] = {str: "a string", tuple[str, ...]: "an array of strings"}
#: A front end replaces this word by the path of its own Python.
_ANY_PYTHON = "python"


_TEXT: Final = instance_of(str)


def _to_tuple(value: Any) -> Any:
    """Converts lists to tuples, which JSON does not have."""
    return tuple(value) if isinstance(value, list) else value


@attrs.frozen(kw_only=True)
class KernelOptions:
    """The options that were chosen for a kernel when it was installed; the fields are the options of `proxybox kernel`.

    They are in kernel.json under the same names. Raises TypeError for values of other types.

    policy: a preset's name, or the path of a file; "" for the kernel's own default. folder: a host folder that is shown
    at /box; "." for the notebook's folder. guest: the interpreter, "" for the default. packages: as for `Sandbox`.
    record: a folder for records of its sessions, "" for none.
    """

    policy: str = attrs.field(default="", validator=_TEXT)
    folder: str = attrs.field(default="", validator=_TEXT)
    guest: str = attrs.field(default="", validator=_TEXT)
    packages: tuple[str, ...] = attrs.field(
        default=(), converter=_to_tuple, validator=deep_iterable(_TEXT, instance_of(tuple))
    )
    record: str = attrs.field(default="", validator=_TEXT)


def specification(python: str, display_name: str, choice: KernelOptions) -> dict[str, Any]:
    """Returns the content of kernel.json.

    -P: the kernel starts in the notebook's folder, and imports no modules from there. The choice is on the command
    line, for any front end that can start a kernel, and in the metadata, for people and programs.
    """
    options = {key: value for key, value in attrs.asdict(choice).items() if value or key in ("policy", "folder")}
    flags = [
        (f"--{key}", each) for key, value in options.items() for each in ([value] if isinstance(value, str) else value)
    ]
    chosen = [word for flag, value in flags if value for word in (flag, value)]
    return {
        "argv": [python, "-P", "-m", "proxybox.cli", "kernel", "run", "-f", "{connection_file}", *chosen],
        "display_name": display_name,
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {"debugger": False, "proxybox": options},
    }


#: The specification in the wheel.
SHIPPED = json.dumps(specification(_ANY_PYTHON, DISPLAY_NAME, KernelOptions()), indent=1) + "\n"


@attrs.frozen
class Installed:
    """The result of `install`.

    folders: the folders in which a specification was written, in Jupyter's order. is_seen: whether the Jupyter of this
    environment searches there.
    """

    folders: tuple[Path, ...]
    is_seen: bool


def install(
    *, name: str, display_name: str, choice: KernelOptions, user: bool = False, prefix: str | None = None
) -> Installed:
    """Writes a specification where front ends look for it.

    user, prefix: write it for the user, or below this prefix, and nowhere else. Without either, it is written for the
    user, and also over each of proxybox's specifications that Jupyter would find before that, such as the wheel's.

    Raises OSError, and ValueError for an invalid name, or when Jupyter would still start another kernel.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a kernel: want letters, digits, '.', '_' and '-'")
    manager, name = KernelSpecManager(), name.lower()
    parent = Path(prefix, "share", "jupyter", "kernels").absolute() if prefix else Path(manager.user_kernel_dir)
    before, is_seen = _found_before(parent, name)
    in_the_way = before if user or prefix else [folder for folder in before if _choice_at(folder) is None]
    if in_the_way:
        raise ValueError(_said_of(in_the_way[0], parent / name))
    text = json.dumps(specification(sys.executable, display_name, choice), indent=1) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kernel.json").write_text(text)
        os.chmod(folder, 0o755)  # noqa: S103 - it is copied with its mode, for other users to read
        for first in before:
            _write(first, text)
        manager.install_kernel_spec(folder, name, user=not prefix, prefix=prefix)
    return Installed((*before, parent / name), is_seen)


def _found_before(parent: Path, name: str) -> tuple[list[Path], bool]:
    """Returns folders of that name that Jupyter finds before `parent`, and whether Jupyter searches `parent`."""
    found: list[Path] = []
    for folder in _kernel_dirs():
        if folder == Path(os.path.realpath(parent)):
            return found, True
        found += _in_folder(folder, name)
    return [], False


def _kernel_dirs() -> list[Path]:
    """Returns the folders that Jupyter searches, in its order."""
    return list(dict.fromkeys(Path(os.path.realpath(folder)) for folder in KernelSpecManager().kernel_dirs))


def _in_folder(folder: Path, name: str) -> list[Path]:
    manager = KernelSpecManager(kernel_dirs=[str(folder)], ensure_native_kernel=False)
    found = manager.find_kernel_specs().get(name.lower())
    return [Path(found)] if found else []


def _said_of(first: Path, folder: Path) -> str:
    words = "another kernel's"
    if _choice_at(first) is not None:
        words = "the one that came with proxybox" if _is_shipped(first) else "an earlier one of proxybox's"
    return (
        f"Jupyter would not start it: before {folder} it finds {first}, {words}. Want another --name, or no option for "
        "the place, which replaces what is proxybox's"
    )


def _write(folder: Path, text: str) -> None:
    """Replaces the specification in a folder."""
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".kernel", delete=False) as file:
        try:
            file.write(text)
            os.chmod(file.name, 0o644)
            os.replace(file.name, folder / "kernel.json")
        except BaseException:
            os.unlink(file.name)
            raise


def uninstall(name: str) -> tuple[list[Path], list[Path]]:
    """Removes what `install` has written under a name, wherever Jupyter finds it.

    Returns the folders that were removed, and those in which the specification of proxybox's wheel was restored. The
    wheel's own specification is never removed.

    Raises NoSuchKernel, OSError, or ValueError when there is nothing that `install` has written.
    """
    found = [folder for parent in _kernel_dirs() for folder in _in_folder(parent, name)]
    if not found:
        raise NoSuchKernel(name)
    ours = [folder for folder in found if _choice_at(folder) is not None]
    written = [folder for folder in ours if not _is_shipped(folder)]
    if not written:
        words = "came with proxybox, and goes with it" if ours else "is no kernel of proxybox's"
        raise ValueError(f"{(ours or found)[0]} {words}")
    wheels = _places_of_the_wheel()
    gone, restored = [], []
    for folder in written:
        if Path(os.path.realpath(folder)) in wheels:
            _write(folder, SHIPPED)
            restored.append(folder)
        else:
            shutil.rmtree(folder)
            gone.append(folder)
    return gone, restored


def _places_of_the_wheel() -> set[Path]:
    """Returns folders of specifications that pip has installed with this package, and would remove with it."""
    try:
        files = importlib.metadata.files("proxybox") or []
    except importlib.metadata.PackageNotFoundError:
        return set()
    return {Path(os.path.realpath(str(file.locate()))).parent for file in files if file.name == "kernel.json"}


def _is_shipped(folder: Path) -> bool:
    """Whether a specification is the wheel's: it runs in Jupyter's own Python, while `install` names a Python."""
    argv = json.loads((folder / "kernel.json").read_text()).get("argv")
    return isinstance(argv, list) and argv[:1] == [_ANY_PYTHON]


def _choice_at(folder: Path) -> KernelOptions | None:
    """Returns the options of a kernel of proxybox; None for another kernel."""
    try:
        return _choice_in(json.loads((folder / "kernel.json").read_text()))
    except ValueError:
        return None


def choice_for(connection_file: str) -> KernelOptions:
    """Returns the options of the kernel that a front end starts.

    The front end writes the kernel's name into the connection file. Raises ValueError for options that make no sense.
    """
    try:
        name = json.loads(Path(connection_file).read_text()).get("kernel_name", "")
        metadata = KernelSpecManager(ensure_native_kernel=False).get_kernel_spec(name).metadata
    except (OSError, ValueError, NoSuchKernel):
        return KernelOptions()
    return _choice_in({"metadata": metadata}) or KernelOptions()


def _choice_in(spec: Any) -> KernelOptions | None:
    """Returns the part of a specification that is proxybox's. Raises ValueError if it makes no sense."""
    metadata = spec.get("metadata") if isinstance(spec, dict) else None
    own = metadata.get("proxybox") if isinstance(metadata, dict) else None
    if own is None:
        return None
    try:
        return KernelOptions(**own)
    except TypeError:
        names = ", ".join(f"{field.name} ({_WANTED[field.type]})" for field in attrs.fields(KernelOptions))
        raise ValueError(
            f"kernel.json: metadata.proxybox: want an object, of which these may be members: {names}"
        ) from None

"""The commands about installed things, as click sees them: interpreters, packages, and the kernel for Jupyter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from proxybox.cli.options import complete_file, complete_policy, guest_option, json_flag, packages_option


@click.command("doctor", short_help="Check whether boxes run here, and with which defences.")
@click.option(
    "--guest",
    metavar="GUEST",
    help="Check this interpreter: pypy, cpython, 3.13 or a path.",
    shell_complete=complete_file,
)
@json_flag
def doctor(guest: str | None, as_json: bool) -> int:
    """Check whether boxes run here: the interpreter, and the defences that this host gives.

    The exit status is 0 when boxes can run, 125 when they cannot; then the output says what to do.
    """
    from proxybox.cli.doctor import report

    return report(guest, as_json=as_json)


@click.group(
    "guests",
    short_help="List the interpreters of this machine, and whether boxes run with them.",
    invoke_without_command=True,
)
@json_flag
@click.pass_context
def guests_group(context: click.Context, as_json: bool) -> int | None:
    """List the interpreters that --guest finds by name; a program is run in a box with each.

    The exit status is 0 when a program ran in one of them, 125 otherwise.

    \b
    Examples:
      proxybox guests
      proxybox guests install translated
      proxybox run --guest translated script.py
    """
    if context.invoked_subcommand is not None:
        return None
    from proxybox.cli.guests import report

    return report(as_json=as_json)


TRANSLATED = click.argument("kind", type=click.Choice(["translated"]), metavar="translated")


@guests_group.command("install", short_help="Install a PyPy that was translated with --sandbox.")
@TRANSLATED
@click.option(
    "--from", "archives", metavar="FILE", multiple=True, type=Path, shell_complete=complete_file,
    help="Install this archive (.tar.gz, .tar.bz2, .tar.xz) of a build, or of its library, not what is published.",
)  # fmt: skip
def guests_install(kind: str, archives: tuple[Path, ...]) -> int:
    """Install a PyPy that was translated with --sandbox, for --guest translated.

    It installs the published build, whose hash is known, or your own archives. The start of this PyPy is not sealed:
    use only archives of people whom you trust.
    """
    from proxybox.cli import guests

    return guests.install(archives)


@guests_group.command("build", short_help="Translate a PyPy from its source, and install it.")
@click.argument("source", type=Path, shell_complete=complete_file)
@click.option("--check", is_flag=True, help="Only say what the translation needs and this machine lacks.")
def guests_build(source: Path, check: bool) -> int:
    """Translate a PyPy with --sandbox from its source (an hour, 6 GiB of memory), and install it.

    First it checks whether all requirements are met. The translation is a program of that source, and runs outside of
    any box.
    """
    from proxybox.cli import guests

    return guests.build(source, check_only=check)


@guests_group.command("remove", short_help="Remove the translated PyPy that was installed.")
@TRANSLATED
def guests_remove(kind: str) -> int:
    """Remove the installed translated PyPy. Before that, end the boxes that use it."""
    from proxybox.cli import guests

    return guests.remove()


@click.group("packages", invoke_without_command=True)
@json_flag
@click.pass_context
def packages_group(context: click.Context, as_json: bool) -> int | None:
    """List packages that were installed for boxes (--packages with a requirements file or a script), with their sizes.

    \b
    Examples:
      proxybox run --packages requirements.txt main.py
      proxybox packages
      proxybox packages prune --older-than 30d
      proxybox packages compile ~/project/.venv --guest cpython
    """
    if context.invoked_subcommand is not None:
        return None
    from proxybox.cli import packages

    return packages.show(as_json=as_json)


@packages_group.command("compile", short_help="Compile packages once for all boxes.")
@click.argument("path", type=Path, shell_complete=complete_file)
@guest_option
def packages_compile(path: Path, guest: str | None) -> int:
    """Compile the modules of a virtual environment or a folder to .pyc files, with an interpreter in a box.

    Boxes cannot write to this folder: without these files, each program compiles again what it imports.
    """
    from proxybox.cli import packages

    return packages.compile_packages(path, guest)


@packages_group.command("prune", short_help="Remove packages that were not used lately.")
@click.option(
    "--older-than",
    default="0",
    metavar="DURATION",
    help="Remove only packages that were not used for this time: 30d, 12h.",
)
@json_flag
def packages_prune(older_than: str, as_json: bool) -> int:
    """Remove packages. Before that, end the boxes that use them. Packages that are needed again are installed again."""
    from proxybox.cli import packages

    return packages.prune(older_than, as_json=as_json)


@click.group("kernel")
def kernel_group() -> None:
    """Jupyter notebooks, every cell of which runs in a box.

    \b
    Examples:
      proxybox kernel install
      proxybox kernel install --name strict --policy strict --display-name 'Python, strict'
      proxybox kernel install --name data --guest cpython --packages requirements.txt
      jupyter lab
    """


#: The options of a kernel: the fields of proxybox.kernel.spec.KernelOptions.
KERNEL_OPTIONS: Final = (
    click.option(
        "--policy",
        "-p",
        metavar="NAME|FILE",
        help="Let cells do what this policy allows.",
        shell_complete=complete_policy,
    ),
    click.option(
        "--folder", metavar="PATH", help="Show this folder at /box (. is the notebook's own); without it /box is empty."
    ),
    guest_option,
    packages_option,
    click.option(
        "--record", metavar="DIR", help="Write a record of each session into this folder.", shell_complete=complete_file
    ),
)


def kernel_options(command: Callable[..., int]) -> Callable[..., int]:
    """Gives a command the options of KERNEL_OPTIONS."""
    for option in reversed(KERNEL_OPTIONS):
        command = option(command)
    return command


@kernel_group.command("install", short_help="Install the kernel where Jupyter finds it.")
@click.option("--user", is_flag=True, help="Install it for you alone.")
@click.option("--prefix", metavar="PATH", help="Install it only below PATH/share/jupyter.")
@click.option("--sys-prefix", is_flag=True, help="Install it only in the environment that has proxybox.")
@click.option(
    "--name", default="proxybox", metavar="NAME", help="Give the kernel this name, as for --kernel_name of Jupyter."
)
@click.option("--display-name", metavar="TEXT", help="Show this name in menus.")
@kernel_options
def kernel_install(user: bool, prefix: str | None, sys_prefix: bool, **options: Any) -> int:
    """Install the kernel where Jupyter finds it.

    It is installed for you. It also replaces each kernel of proxybox that Jupyter would find first, such as the one
    that came with proxybox. The kernel then always uses this policy, folder, interpreter and these packages; install it
    under several names to have a choice.
    """
    from proxybox.cli import kernel
    from proxybox.cli.failures import UsageError

    try:
        for_user, where = kernel.prefix_of(user, prefix, sys_prefix)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    return kernel.install(user=for_user, prefix=where, **options)


@kernel_group.command("uninstall", short_help="Remove a kernel that was installed.")
@click.option("--name", default="proxybox", metavar="NAME", help="Remove the kernel of this name.")
def kernel_uninstall(name: str) -> int:
    """Remove a kernel that `install` has installed. The kernel that came with proxybox stays."""
    from proxybox.cli import kernel

    return kernel.uninstall(name=name)


@kernel_group.command("run", short_help="Serve a front end; Jupyter starts this.")
@click.option("-f", "connection_file", required=True, metavar="FILE", help="Read the connection file of the front end.")
@kernel_options
def kernel_run(connection_file: str, **options: Any) -> int:
    """Serve a front end. Jupyter starts this command."""
    from proxybox.cli import kernel

    return kernel.run(connection_file, **options)

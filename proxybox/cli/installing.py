"""The commands about what is installed, as click sees them: interpreters, packages, and the kernel for Jupyter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from proxybox.cli.options import complete_file, complete_policy, guest_option, json_flag, packages_option


@click.command("doctor", short_help="Whether boxes run here, and with which defences.")
@click.option("--guest", metavar="GUEST", help="The interpreter to look at.", shell_complete=complete_file)
@json_flag
def doctor(guest: str | None, as_json: bool) -> int:
    """Whether boxes run here: the interpreter, and the defences that this host gives.

    The exit status is 0 when boxes can run, 125 when they cannot; what to do is said.
    """
    from proxybox.cli.doctor import report

    return report(guest, as_json=as_json)


@click.group(
    "guests",
    short_help="The interpreters of this machine, and whether boxes run with them.",
    invoke_without_command=True,
)
@json_flag
@click.pass_context
def guests_group(context: click.Context, as_json: bool) -> int | None:
    """The interpreters that --guest finds by name, each tried in a box.

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
    help="An archive of a build (.tar.gz, .tar.bz2, .tar.xz), or of the library for it, in the place of what is "
    "published. May be repeated.",
)  # fmt: skip
def guests_install(kind: str, archives: tuple[Path, ...]) -> int:
    """Install a PyPy that was translated with --sandbox, for --guest translated.

    It is the published build, by its hash, or one from archives of yours. Its own start is not sealed yet:
    use archives of those whom you trust.
    """
    from proxybox.cli import guests

    return guests.install(archives)


@guests_group.command("build", short_help="Translate one from PyPy's source, and install it.")
@click.argument("source", type=Path, shell_complete=complete_file)
@click.option("--check", is_flag=True, help="Only say what is missing for it.")
def guests_build(source: Path, check: bool) -> int:
    """Translate a PyPy with --sandbox from its source (an hour, 6 GiB of memory), and install it.

    What it needs is looked at first. The translation is a program of that source, and runs outside of any box.
    """
    from proxybox.cli import guests

    return guests.build(source, check_only=check)


@guests_group.command("remove", short_help="Remove what was installed.")
@TRANSLATED
def guests_remove(kind: str) -> int:
    """Remove the translated PyPy that was installed. End the boxes that use it before."""
    from proxybox.cli import guests

    return guests.remove()


@click.group("packages", invoke_without_command=True)
@json_flag
@click.pass_context
def packages_group(context: click.Context, as_json: bool) -> int | None:
    """Packages that were installed for boxes (--packages with a requirements file or a script), with their sizes.

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


@packages_group.command("compile", short_help="Compile packages once, for all boxes.")
@click.argument("path", type=Path, shell_complete=complete_file)
@guest_option
def packages_compile(path: Path, guest: str | None) -> int:
    """Write the missing .pyc files of a virtual environment or a folder; the interpreter that does it runs in a box.

    Boxes cannot write there: without these files each program compiles what it imports again.
    """
    from proxybox.cli import packages

    return packages.compile_packages(path, guest)


@packages_group.command("prune", short_help="Remove what was not used lately.")
@click.option("--older-than", default="0", metavar="DURATION", help="Only what was not used for so long: 30d, 12h.")
@json_flag
def packages_prune(older_than: str, as_json: bool) -> int:
    """Remove packages; what is needed again is installed again. End the boxes that use them before."""
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


#: What is chosen for a kernel: the fields of proxybox.kernel.spec.Choice.
KERNEL_OPTIONS: Final = (
    click.option("--policy", "-p", metavar="NAME|FILE", help="What cells may do.", shell_complete=complete_policy),
    click.option(
        "--folder", metavar="PATH", help="A folder to show at /box; . is the notebook's own. Without it /box is empty."
    ),
    guest_option,
    packages_option,
    click.option(
        "--record", metavar="DIR", help="Leave a record of each session in this folder.", shell_complete=complete_file
    ),
)


def kernel_options(command: Callable[..., int]) -> Callable[..., int]:
    """Gives a command the options of KERNEL_OPTIONS."""
    for option in reversed(KERNEL_OPTIONS):
        command = option(command)
    return command


@kernel_group.command("install", short_help="Let Jupyter find the kernel.")
@click.option("--user", is_flag=True, help="For you alone, and nowhere else.")
@click.option("--prefix", metavar="PATH", help="Below PATH/share/jupyter, and nowhere else.")
@click.option("--sys-prefix", is_flag=True, help="In the environment that proxybox is installed in, and nowhere else.")
@click.option("--name", default="proxybox", metavar="NAME", help="The kernel's name: --kernel_name=NAME.")
@click.option("--display-name", metavar="TEXT", help="What menus show.")
@kernel_options
def kernel_install(user: bool, prefix: str | None, sys_prefix: bool, **options: Any) -> int:
    """Let Jupyter find the kernel.

    It is installed for you, and also over each of proxybox's that Jupyter would find before that, such as
    the one that came with proxybox. The policy, the folder, the interpreter and the packages are the
    kernel's from then on; install it under several names to have several to choose from.
    """
    from proxybox.cli import kernel
    from proxybox.cli.failures import UsageError

    try:
        for_user, where = kernel.prefix_of(user, prefix, sys_prefix)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    return kernel.install(user=for_user, prefix=where, **options)


@kernel_group.command("uninstall", short_help="Remove what install has written.")
@click.option("--name", default="proxybox", metavar="NAME", help="The kernel's name.")
def kernel_uninstall(name: str) -> int:
    """Remove what install has written. The kernel that came with proxybox stays."""
    from proxybox.cli import kernel

    return kernel.uninstall(name=name)


@kernel_group.command("run", short_help="Serve a front end; Jupyter starts this.")
@click.option("-f", "connection_file", required=True, metavar="FILE", help="The front end's connection file.")
@kernel_options
def kernel_run(connection_file: str, **options: Any) -> int:
    """Serve a front end: what Jupyter starts."""
    from proxybox.cli import kernel

    return kernel.run(connection_file, **options)

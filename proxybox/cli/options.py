"""Options that several commands share, and functions that complete their values, in the shells that click knows."""

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from proxybox.cli.arguments import Option


def completers() -> dict[str, Callable[[click.Context, click.Parameter, str], list[CompletionItem]]]:
    """Returns the functions that complete an option's value, by its metavar. Other values have no completion."""
    return {
        "NAME|FILE": complete_policy, "KEY=VALUE": complete_setting, "FAMILY": complete_family, "MODE": complete_writes,
        **dict.fromkeys(("FILE", "DIR", "PATH", "GUEST", "KEY"), complete_file),
    }  # fmt: skip


def complete_policy(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """Returns the presets that begin with `text`, and files."""
    from proxybox.policies import PRESETS

    names = [CompletionItem(name) for name in PRESETS if name.startswith(text)]
    return [CompletionItem(text, type="file"), *names]  # files first: bash drops what comes before them


def complete_writes(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """Returns the ways of writing that begin with `text`."""
    return [CompletionItem(name) for name in ("memory", "overlay", "rw") if name.startswith(text)]


def complete_family(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """Returns the families of calls that begin with `text`."""
    from proxybox.cli.trace import known_families

    return [CompletionItem(name) for name in sorted(known_families()) if name.startswith(text)]


def complete_setting(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """Returns the keys of a policy that begin with `text`; after "=", the words that the key allows."""
    from proxybox.policies.keys import keys

    name, equals, value = text.partition("=")
    if not equals:
        return [CompletionItem(f"{each}=") for each in keys() if each.startswith(name)]
    words = keys()[name].choices if name in keys() else ()
    return [CompletionItem(f"{name}={word}") for word in words if word.startswith(value)]


def complete_file(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """Leaves the completion of file names to the shell."""
    return [CompletionItem(text, type="file")]


def click_option(option: Option) -> click.Option:
    """Makes click's form of one option."""
    return click.Option(
        [*option.flags, option.name],
        metavar=option.metavar,
        is_flag=True if option.metavar is None else None,  # False would make the option's value optional
        multiple=option.many,
        help=f"{option.help.removesuffix('.')} ({option.sets})." if option.sets else option.help,
        shell_complete=completers().get(option.metavar or ""),
    )


json_flag = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
guest_option = click.option(
    "--guest",
    metavar="GUEST",
    help="Use this interpreter: pypy, cpython, 3.13 or a path.",
    shell_complete=complete_file,
)
packages_option = click.option(
    "--packages", multiple=True, metavar="PATH", shell_complete=complete_file,
    help="Let programs import these packages: a virtual environment, a folder or a requirements file.",
)  # fmt: skip

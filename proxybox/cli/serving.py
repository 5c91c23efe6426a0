"""`proxybox serve` and `proxybox serve keys`, as click sees them; their work is done in serve.py."""

from pathlib import Path
from typing import Any

import click

from proxybox.cli.options import complete_file, json_flag
from proxybox.serve.access import SCOPES

config_option = click.option(
    "--config",
    "-c",
    type=Path,
    metavar="FILE",
    help="Read the settings from a TOML file (docs/serve.md).",
    shell_complete=complete_file,
)
data_option = click.option("--data", metavar="PATH", help="Store the keys and the database in this folder.")
keys_option = click.option("--keys", metavar="FILE", help="Store the keys in this file (keys.json in --data).")


@click.group("serve", invoke_without_command=True, short_help="Boxes as a service, over HTTP.")
@config_option
@click.option("--listen", "-l", metavar="ADDRESS", help="Listen at HOST:PORT or unix:PATH (127.0.0.1:8000).")
@click.option("--port", type=click.IntRange(1, 65_535), metavar="PORT", help="Listen at 127.0.0.1:PORT.")
@data_option
@keys_option
@click.option(
    "--database",
    metavar="URL",
    help="Use this database: an SQLAlchemy URL, such as postgresql://... (SQLite in --data).",
)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Run the boxes in N processes (as many as CPUs).")
@click.option("--require-keys", is_flag=True, help="Require a key on loopback, too, even before there is one.")
@click.option(
    "--policy", "-p", "policies", multiple=True, metavar="[NAME=]PRESET|FILE", help="Offer this policy to clients."
)
@click.option(
    "--guest",
    metavar="GUEST",
    help="Use this interpreter: pypy, cpython, 3.13 or a path.",
    shell_complete=complete_file,
)
@click.option(
    "--packages", multiple=True, metavar="PATH", shell_complete=complete_file,
    help="Let programs import these packages: a virtual environment, a folder or a requirements file.",
)  # fmt: skip
@click.option("--preload", multiple=True, metavar="MODULE", help="Import this module before a program starts.")
@click.option("--log", type=click.Choice(["text", "json"]), help="Write log lines in this form (text).")
@click.option("--check", is_flag=True, help="Start the service, test it, print the outcome, and end.")
@click.pass_context
def serve_group(context: click.Context, /, **options: Any) -> int | None:
    """Serve boxes over HTTP: runs, sessions, and protocols of other projects.

    It tests its own boxes before it serves. On loopback, no key is needed until a key is made; elsewhere, requests need
    a key of `proxybox serve keys`. After SIGTERM, running programs can finish.

    \b
    Examples:
      proxybox serve --port 9000
      proxybox serve --policy strict --policy lab=lab.toml --guest cpython --packages requirements.txt
      proxybox serve keys add moodle
      proxybox serve --config serve.toml --listen 0.0.0.0:8000
      curl -s localhost:8000/v1/run --json '{"code": "print(6 * 7)"}'
    """
    if context.invoked_subcommand is not None:
        return None
    from proxybox.cli import serve

    return serve.serve(**options)


@serve_group.group("keys")
def keys_group() -> None:
    """The keys that clients present.

    Only a hash of each key is stored, so a key is shown once, when it is made. A key that is
    revoked is refused from then on. A service that is running ends the programs of that key.
    After the first key was made, the service always requires a key.

    \b
    Examples:
      proxybox serve keys add moodle
      proxybox serve keys add agents --policy strict --concurrency 4 --expires 90d
      proxybox serve keys add prometheus --scope metrics
      proxybox serve keys list
      proxybox serve keys rotate moodle --grace 1h
      proxybox serve keys revoke moodle
    """


@keys_group.command("add", short_help="Make a key, and show it.")
@click.argument("name")
@click.option(
    "--policy", "-p", "policies", multiple=True, metavar="NAME", help="Let the key use this policy (default: all)."
)
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="Let at most N of its programs run at once.")
@click.option(
    "--scope", type=click.Choice(list(SCOPES)), default="client", show_default=True,
    help="What the key opens: runs and sessions (client), /metrics (metrics), or /metrics and / (operator).",
)  # fmt: skip
@click.option(
    "--expires", metavar="DURATION|DAY", help="Let the key expire: after 90d, or on a day such as 2030-01-31 (UTC)."
)
@config_option
@data_option
@keys_option
@json_flag
def keys_add(**options: Any) -> int:
    """Make a key, and show it. It is not shown again."""
    from proxybox.cli import serve

    return serve.add_key(**options)


@keys_group.command("list", short_help="The keys that there are.")
@config_option
@data_option
@keys_option
@json_flag
def keys_list(**options: Any) -> int:
    """List the keys, including revoked ones."""
    from proxybox.cli import serve

    return serve.list_keys(**options)


@keys_group.command("rotate", short_help="Give a key another secret.")
@click.argument("name", metavar="NAME|ID")
@click.option(
    "--grace", metavar="DURATION", default="24h", show_default=True, help="Accept the former secret for this time."
)
@config_option
@data_option
@keys_option
@json_flag
def keys_rotate(**options: Any) -> int:
    """Give a key another secret, and show it. It is not shown again.

    The key keeps its sessions, files and limits. Both secrets are valid for the time of --grace. After that, programs
    that were started with the former secret are ended; with --grace 0, this is at once.
    """
    from proxybox.cli import serve

    return serve.rotate_key(**options)


@keys_group.command("revoke", short_help="Refuse a key from now on.")
@click.argument("name", metavar="NAME|ID")
@config_option
@data_option
@keys_option
def keys_revoke(**options: Any) -> int:
    """Refuse a key from now on."""
    from proxybox.cli import serve

    return serve.revoke_key(**options)

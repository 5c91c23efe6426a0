"""`proxybox policy`, as click sees it; the work of its commands is done in policy.py."""

from pathlib import Path
from typing import Any

import click

from proxybox.cli.options import (
    complete_file,
    complete_policy,
    complete_setting,
    guest_option,
    json_flag,
    packages_option,
)

policy_argument = click.argument("policy", metavar="NAME|FILE", shell_complete=complete_policy)
set_option = click.option(
    "--set",
    "-s",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the policy first: limits.threads=4.",
    shell_complete=complete_setting,
)


@click.group("policy")
def policy_group() -> None:
    """Look at policies: what a box may do.

    \b
    Examples:
      proxybox policy list
      proxybox policy show strict > mine.toml
      proxybox policy check mine.toml
      proxybox policy check data.toml --guest cpython --packages ~/project/.venv
      proxybox policy explain mine.toml
      proxybox policy minimise mine.toml run.pbx > smaller.toml
      proxybox policy schema > policy.schema.json
    """


@policy_group.command("list")
@json_flag
def policy_list(as_json: bool) -> int:
    """List the presets, and the purpose of each."""
    from proxybox.cli import policy

    return policy.list_presets(as_json=as_json)


@policy_group.command("show")
@policy_argument
@set_option
@json_flag
def policy_show(policy: str, settings: tuple[str, ...], as_json: bool) -> int:
    """Print a policy as TOML, as a beginning for your own policy."""
    from proxybox.cli import policy as work

    return work.show(policy, settings, as_json=as_json)


@policy_group.command("minimise", short_help="Print a policy without what recorded runs never used.")
@policy_argument
@click.argument("records", nargs=-1, required=True, metavar="RECORD...", type=Path, shell_complete=complete_file)
@set_option
@json_flag
def policy_minimise(policy: str, records: tuple[Path, ...], settings: tuple[str, ...], as_json: bool) -> int:
    """Print a policy as TOML, without the parts that recorded runs (run --record) never used.

    Mounts that no run has reached are removed, folders that were only read become read-only, and limits that are far
    above the use become lower. Removed parts are printed on stderr.
    """
    from proxybox.cli import policy as work

    return work.minimise(policy, records, settings, as_json=as_json)


@policy_group.command("check", short_help="Check policy files.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=Path, shell_complete=complete_file)
@guest_option
@packages_option
@json_flag
def policy_check(files: tuple[Path, ...], **options: Any) -> int:
    """Check policy files, and print every fault with its key and the allowed values.

    With --guest or --packages, check also whether this interpreter, with these packages, has the modules of `preload`.
    """
    from proxybox.cli import policy

    return policy.check(files, **options)


@policy_group.command("explain")
@policy_argument
@set_option
@json_flag
def policy_explain(policy: str, settings: tuple[str, ...], as_json: bool) -> int:
    """Say in words what a policy allows and refuses."""
    from proxybox.cli import policy as work

    return work.explain(policy, settings, as_json=as_json)


@policy_group.command("schema")
def policy_schema() -> int:
    """Print the JSON Schema of policy files, for editors."""
    from proxybox.cli import policy

    return policy.print_schema()

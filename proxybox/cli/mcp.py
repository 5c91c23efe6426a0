"""`proxybox mcp`: boxes as tools of a language model, over standard input and output."""

import signal

from proxybox.cli.arguments import Parsed
from proxybox.cli.choosing import choose_policy, chosen_packages
from proxybox.cli.failures import CommandError


def mcp(parsed: Parsed) -> int:
    """Serves until the client closes standard input."""
    policy = choose_policy(parsed)
    try:
        from proxybox.aio.sandbox import AsyncSandbox
        from proxybox.serve.mcp import local
    except ImportError as error:
        raise CommandError(str(error)) from None
    guest, library = parsed.text("guest"), parsed.text("guest_library")
    packages = chosen_packages(parsed.texts("packages"), guest, library)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the thread that waits for the client cannot be ended in another way
    local.serve(AsyncSandbox(policy, guest=guest, guest_library=library, packages=packages))
    return 0

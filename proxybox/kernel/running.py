"""The kernel's process: ipykernel's application without what a kernel of untrusted code cannot want.

Rule: a kernel runs in the folder of its notebook, which may be as untrusted as the notebook is. No code and no
configuration is taken from there: the command line of a kernel has Python's -P, nothing is put on sys.path, and no
configuration file is read.
"""

from typing import Any

from ipykernel.kernelapp import IPKernelApp

from proxybox.kernel.kernel import ProxyboxKernel
from proxybox.policies import Policy


class KernelApp(IPKernelApp):
    """Sockets and the loop of a kernel."""

    name = "proxybox-kernel"

    def init_profile_dir(self) -> None:
        """A profile is IPython's."""
        self.profile_dir = None

    def init_config_files(self) -> None:
        """No configuration."""

    def load_config_file(self, *_: Any, **__: Any) -> None:
        """No configuration."""

    def init_control(self, context: Any) -> None:
        """No thread of its own for the shell channel: it serves subshells, and a session takes one call at a time. With
        the thread and without subshells, ipykernel would use one socket from two threads."""
        super().init_control(context)
        self.shell_channel_thread = None

    def init_path(self) -> None:
        """The notebook's folder has no modules for us."""

    def init_pdb(self) -> None:
        """Nobody debugs this process from a notebook."""


def run_kernel(connection_file: str, policy: Policy, folder: str | None) -> None:
    """Serves the front ends of a connection file until one of them ends it."""
    ProxyboxKernel.policy, ProxyboxKernel.folder = policy, folder
    # What this process prints is for whoever started it: a notebook's output is the box's alone.
    app = KernelApp.instance(kernel_class=ProxyboxKernel, outstream_class=None)
    app.initialize(["-f", connection_file])
    try:
        app.start()
    finally:
        app.kernel.settle()

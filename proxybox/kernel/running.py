"""The process of the kernel: ipykernel's application without the parts that a kernel for untrusted code must not have.

Rule: a kernel runs in the folder of its notebook, which may be as untrusted as the notebook itself. No code and no
configuration is read from there: a kernel's command line has Python's -P, nothing is added to sys.path, and no
configuration file is read.
"""

from typing import Any

from ipykernel.kernelapp import IPKernelApp

from proxybox.kernel.kernel import ProxyboxKernel
from proxybox.kernel.spec import KernelOptions
from proxybox.policies import Policy


class KernelApp(IPKernelApp):
    """The sockets and the event loop of a kernel."""

    name = "proxybox-kernel"

    def init_profile_dir(self) -> None:
        """Sets no profile: profiles are IPython's."""
        self.profile_dir = None

    def init_config_files(self) -> None:
        """Creates no configuration files."""

    def load_config_file(self, *_: Any, **__: Any) -> None:
        """Reads no configuration file."""

    def init_control(self, context: Any) -> None:
        """Makes the control channel, but no thread for the shell channel.

        That thread serves subshells, and a session takes one call at a time. With the thread and without subshells,
        ipykernel would use one socket from two threads.
        """
        super().init_control(context)
        self.shell_channel_thread = None

    def init_path(self) -> None:
        """Leaves sys.path alone: the notebook's folder has no modules for this process."""

    def init_pdb(self) -> None:
        """Leaves pdb alone: a notebook must not debug this process."""


def run_kernel(connection_file: str, policy: Policy, choice: KernelOptions) -> None:
    """Serves the front ends of a connection file until one of them shuts the kernel down."""
    ProxyboxKernel.policy, ProxyboxKernel.choice = policy, choice
    # What this process prints goes to the process that started it: only the box may write to a notebook.
    app = KernelApp.instance(kernel_class=ProxyboxKernel, outstream_class=None)
    app.initialize(["-f", connection_file])
    try:
        app.start()
    finally:
        app.kernel.settle()

"""A replacement of IPython where it is not installed: `IPython.display`. It has no shell."""

version_info = (9, 0, 0, "")
__version__ = "9.0.0"


def get_ipython():
    """Returns None: the code does not run under IPython."""

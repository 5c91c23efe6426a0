"""The names of IPython.display, where they were in earlier versions."""

from IPython.display import *  # noqa: F403

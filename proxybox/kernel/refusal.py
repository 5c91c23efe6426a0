"""What is raised where something of a box cannot be shown."""


class CannotShow(Exception):
    """Something cannot be shown; the text says why, in words of our own."""

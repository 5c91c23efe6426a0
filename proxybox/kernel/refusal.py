"""The exception for data of a box that cannot be shown."""


class CannotShow(Exception):
    """Something cannot be shown; the text says why, in words of our own."""

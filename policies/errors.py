"""The errors at the bottom of the import order, so that every part can raise them."""


class ProxyboxError(Exception):
    """The base of every error that proxybox raises on purpose."""


class PolicyError(ProxyboxError, ValueError):
    """A policy that makes no sense. The text says where, what is allowed and what was given."""

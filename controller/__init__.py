"""The trusted side of a box, and the names that users may build on.

OSCall, Deny and Answer are for a user's own rules, `@oscall` is for OS calls, and `BoxRunner` for worlds. README.md in
this folder follows one call through the code.

The package is installed as `proxybox.controller`. A bare `import controller` from a checkout would make a second
copy of every table, and raises ImportError.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "proxybox.controller":
    raise ImportError("import proxybox.controller, not controller: it is a part of the package proxybox")

if TYPE_CHECKING:
    from proxybox.controller.audit import Answer as Answer
    from proxybox.controller.audit import Audit as Audit
    from proxybox.controller.audit import Decision as Decision
    from proxybox.controller.audit import Denial as Denial
    from proxybox.controller.audit import Deny as Deny
    from proxybox.controller.audit import Interceptor as Interceptor
    from proxybox.controller.audit import OSCall as OSCall
    from proxybox.controller.boxes.box import BoxResult as BoxResult
    from proxybox.controller.boxes.box import BoxRunner as BoxRunner
    from proxybox.controller.dispatch import TABLE as TABLE
    from proxybox.controller.dispatch import Dispatcher as Dispatcher
    from proxybox.controller.dispatch import oscall as oscall
    from proxybox.controller.effects import Blocked as Blocked
    from proxybox.controller.effects import Reply as Reply
    from proxybox.controller.errors import Denied as Denied
    from proxybox.controller.errors import EndBox as EndBox
    from proxybox.controller.errors import GuestMisbehaved as GuestMisbehaved
    from proxybox.controller.errors import SandboxClosedError as SandboxClosedError
    from proxybox.controller.errors import SandboxStartError as SandboxStartError
    from proxybox.controller.guests.finding import find_guest as find_guest
    from proxybox.controller.guests.guest import Guest as Guest
    from proxybox.controller.world.state import World as World

_HOMES = {
    "audit": ("Answer", "Audit", "Decision", "Denial", "Deny", "Interceptor", "OSCall"),
    "boxes.box": ("BoxResult", "BoxRunner"),
    "dispatch": ("TABLE", "Dispatcher", "oscall"),
    "effects": ("Blocked", "Reply"),
    "errors": ("Denied", "EndBox", "GuestMisbehaved", "SandboxClosedError", "SandboxStartError"),
    "guests.finding": ("find_guest",),
    "guests.guest": ("Guest",),
    "world.state": ("World",),
}
#: Old names, which users' code may have.
_OLD = {"BoxSpec": "BoxRunner", "Run": "BoxResult"}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name == "Box":
        raise AttributeError("module 'proxybox.controller' has no attribute 'Box': it is BoxRunner now")
    here = _OLD.get(name, name)
    if here not in _HOME_OF:
        raise AttributeError(f"module 'proxybox.controller' has no attribute {name!r}")
    value = getattr(import_module(f"proxybox.controller.{_HOME_OF[here]}"), here)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

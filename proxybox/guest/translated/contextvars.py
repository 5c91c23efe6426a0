"""Context variables (PEP 567), where there is one thread."""

from collections.abc import Mapping as _Mapping

__all__ = ("Context", "ContextVar", "Token", "copy_context")

_NOTHING = object()


class Context(_Mapping):
    """The values of context variables."""

    def __init__(self):
        self._values = {}
        self._before = None  # the context that was current before this one was entered

    def run(self, function, *args, **kwargs):
        global _current
        if self._before is not None:
            raise RuntimeError("cannot enter context: %r is already entered" % (self,))
        self._before = _current
        _current = self
        try:
            return function(*args, **kwargs)
        finally:
            _current, self._before = self._before, None

    def copy(self):
        new = Context()
        new._values = dict(self._values)
        return new

    def __getitem__(self, variable):
        if not isinstance(variable, ContextVar):
            raise TypeError("a ContextVar key was expected, got %r" % (variable,))
        return self._values[variable]

    def __contains__(self, variable):
        if not isinstance(variable, ContextVar):
            raise TypeError("a ContextVar key was expected, got %r" % (variable,))
        return variable in self._values

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)

    __hash__ = object.__hash__


class ContextVar:
    """A variable with a value in each context."""

    def __init__(self, name, *, default=_NOTHING):
        if not isinstance(name, str):
            raise TypeError("context variable name must be a str")
        self._name, self._default = name, default

    name = property(lambda self: self._name)

    def get(self, *default):
        if len(default) > 1:
            raise TypeError("get expected at most 1 argument, got %d" % len(default))
        try:
            return _current._values[self]
        except KeyError:
            pass
        if default:
            return default[0]
        if self._default is _NOTHING:
            raise LookupError(self)
        return self._default

    def set(self, value):
        token = Token(_current, self, _current._values.get(self, _NOTHING))
        _current._values[self] = value
        return token

    def reset(self, token):
        if not isinstance(token, Token):
            raise TypeError("expected an instance of Token, got %r" % (token,))
        if token._used:
            raise RuntimeError("%r has already been used once" % (token,))
        if token._variable is not self:
            raise ValueError("%r was created by a different ContextVar" % (token,))
        if token._context is not _current:
            raise ValueError("%r was created in a different Context" % (token,))
        token._used = True
        if token._before is _NOTHING:
            _current._values.pop(self, None)
        else:
            _current._values[self] = token._before

    def __repr__(self):
        default = "" if self._default is _NOTHING else " default=%r" % (self._default,)
        return "<ContextVar name=%r%s at 0x%x>" % (self._name, default, id(self))


class Token:
    """What ContextVar.set returns, for ContextVar.reset."""

    MISSING = type("MISSING", (), {"__repr__": lambda self: "<Token.MISSING>"})()

    def __init__(self, context, variable, before):
        self._context, self._variable, self._before, self._used = context, variable, before, False

    var = property(lambda self: self._variable)
    old_value = property(lambda self: self.MISSING if self._before is _NOTHING else self._before)

    def __repr__(self):
        used = " used" if self._used else ""
        return "<Token%s var=%r at 0x%x>" % (used, self._variable, id(self))


def copy_context():
    """Returns a copy of the current context."""
    return _current.copy()


_current = Context()

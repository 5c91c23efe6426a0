"""Python's operators for objects of a submission: `first == second`, `len(basket)`, `str(clock)`, `cell.value = 3`.

The box does them, so a class that defines none is told as Python tells it. But a box must never learn what a test
compares with: its object could claim to be just that. So an operator that takes two objects (`==`, `<`, `+`) is asked
of the box where both are objects of the submission. With a value, it is done here, with the object's own value where
it has one, such as a named tuple; else `==` is false, and the others raise Python's TypeError. The test's author can
still ask in so many words: `clock.call("__add__", 3)`, which is `clock + 3`.
"""

import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

#: pytest shows a test's own line, not lines of this file.
__tracebackhide__ = True

#: The operators by their names in the module operator, and as they are written. `a += b` is `a.__iadd__(b)`.
_ARITHMETIC: Final[Mapping[str, str]] = {
    "add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "lshift": "<<", "rshift": ">>", "and_": "&", "or_": "|", "xor": "^",
}  # fmt: skip
_IN_PLACE: Final = {f"i{name.strip('_')}": f"{sign}=" for name, sign in _ARITHMETIC.items()}
_COMPARISONS: Final = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INFIX: Final[Mapping[str, str]] = {**_ARITHMETIC, **_IN_PLACE, **_COMPARISONS}
#: The forms of all that are not written between two objects; those that are absent are written as functions.
_FORMS: Final[Mapping[str, str]] = {
    "neg": "-{}", "pos": "+{}", "invert": "~{}", "contains": "{1} in {0}", "getitem": "{}[{}]",
    "setitem": "{}[{}] = {}", "delitem": "del {}[{}]", "setattr": "{}.{} = {}",
}  # fmt: skip
_FUNCTIONS: Final = ("str", "repr", "format", "len", "bool", "hash", "int", "float", "abs", "round")
#: What Python itself sees to that these return.
_RETURNS: Final[Mapping[str, type]] = {
    "str": str, "repr": str, "format": str, "len": int, "bool": bool, "hash": int, "int": int, "float": float,
    "contains": bool,
}  # fmt: skip
_OPERANDS: Final = {**dict.fromkeys(_INFIX, (2,)), "neg": (1,), "pos": (1,), "invert": (1,), "contains": (2,),
                    "getitem": (2,), "setitem": (3,), "delitem": (2,), **dict.fromkeys(_FUNCTIONS, (1,)),
                    "format": (2,), "round": (1, 2)}  # fmt: skip


def operation(name: str, target: object, args: Sequence[Any]) -> tuple[str, tuple[Any, ...]] | None:
    """The operator that calls a special method, and its operands: "__add__" is "add". None for other methods.

    Python calls such a method only by its operator, which tries the other operand's, and knows NotImplemented.
    """
    if not (name.startswith("__") and name.endswith("__")):
        return None
    plain = name.strip("_")
    for each in (plain, f"{plain}_"):
        if 1 + len(args) in _OPERANDS.get(each, ()):
            return each, (target, *args)
    for each in (plain[1:], f"{plain[1:]}_"):
        if plain[:1] == "r" and each in _ARITHMETIC and len(args) == 1:
            return each, (args[0], target)
    return None


def is_infix(name: str) -> bool:
    """Whether the operator is written between its operands."""
    return name in _INFIX


def is_statement(name: str) -> bool:
    """Whether it returns nothing to the test."""
    return name in ("setitem", "delitem", "setattr")


def words(name: str, operands: Sequence[str]) -> str:
    """The operation as it is written."""
    if name in _INFIX:
        return f" {_INFIX[name]} ".join(operands)
    return _FORMS[name].format(*operands) if name in _FORMS else f"{name}({', '.join(operands)})"


def may_return(name: str, value: object) -> bool:
    """Whether Python can have returned this for the operation, which a box may claim of anything."""
    if type(value) is not _RETURNS.get(name, type(value)):
        return False
    return name != "len" or (isinstance(value, int) and 0 <= value <= sys.maxsize)


def _with_another(name: str, *, reflected: bool = False) -> Callable[[Any, Any], Any]:
    def method(self: "Operators", other: Any) -> Any:
        __tracebackhide__ = True
        if isinstance(other, Operators):
            return self._operate(name, self, other)
        if isinstance(own := self._value(), Operators):
            return NotImplemented
        return getattr(operator, name)(*((other, own) if reflected else (own, other)))

    return method


def _reflected(*names: str) -> Iterator[Callable[[Any, Any], Any]]:
    return (_with_another(name, reflected=True) for name in names)


def _alone(name: str) -> Callable[..., Any]:
    def method(self: "Operators", *more: Any) -> Any:
        __tracebackhide__ = True
        return self._operate(name, self, *more)

    return method


class Operators:
    """An object of the submission, as Python's operators see it."""

    __slots__ = ()

    def _operate(self, name: str, *operands: Any) -> Any:
        """What the operation returns in the box."""
        raise NotImplementedError

    def _value(self) -> Any:
        """The object's own value; the object where it has none that can be sent."""
        raise NotImplementedError

    __eq__, __ne__ = _with_another("eq"), _with_another("ne")
    __lt__, __le__, __gt__, __ge__ = map(_with_another, ("lt", "le", "gt", "ge"))
    __add__, __sub__, __mul__, __matmul__ = map(_with_another, ("add", "sub", "mul", "matmul"))
    __truediv__, __floordiv__, __mod__, __pow__ = map(_with_another, ("truediv", "floordiv", "mod", "pow"))
    __lshift__, __rshift__ = map(_with_another, ("lshift", "rshift"))
    __and__, __or__, __xor__ = map(_with_another, ("and_", "or_", "xor"))
    __radd__, __rsub__, __rmul__, __rmatmul__ = _reflected("add", "sub", "mul", "matmul")
    __rtruediv__, __rfloordiv__, __rmod__, __rpow__ = _reflected("truediv", "floordiv", "mod", "pow")
    __rlshift__, __rrshift__, __rand__, __ror__, __rxor__ = _reflected("lshift", "rshift", "and_", "or_", "xor")
    __iadd__, __isub__, __imul__, __imatmul__ = map(_with_another, ("iadd", "isub", "imul", "imatmul"))
    __itruediv__, __ifloordiv__, __imod__, __ipow__ = map(_with_another, ("itruediv", "ifloordiv", "imod", "ipow"))
    __ilshift__, __irshift__ = map(_with_another, ("ilshift", "irshift"))
    __iand__, __ior__, __ixor__ = map(_with_another, ("iand", "ior", "ixor"))
    __neg__, __pos__, __invert__, __abs__ = map(_alone, ("neg", "pos", "invert", "abs"))
    __str__, __repr__, __format__ = map(_alone, ("str", "repr", "format"))
    __len__, __bool__, __hash__ = map(_alone, ("len", "bool", "hash"))
    __int__, __float__, __round__ = map(_alone, ("int", "float", "round"))
    __getitem__, __setitem__, __delitem__ = map(_alone, ("getitem", "setitem", "delitem"))


def own_value(thing: Operators) -> Any:
    """What an object of the submission holds, as a value; the object where it cannot be sent."""
    return thing._value()

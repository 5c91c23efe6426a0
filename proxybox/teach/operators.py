"""Python's operators for objects of a submission: `first == second`, `len(basket)`, `str(clock)`, `cell.value = 3`.

The box carries them out, so a class without an operator gives Python's own error. But a box must never learn the value
with which a test compares: its object could claim to be equal. So an operator with two operands (`==`, `<`, `+`) is
sent to the box if both are objects of the submission. With a value, it is carried out here, with the object's own value
if it has one, such as a named tuple; otherwise `==` is false, and the others raise Python's TypeError. The test's
author can still send it explicitly: `clock.call("__add__", 3)`, which is `clock + 3`.
"""

import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

#: pytest shows a test's own line, not lines of this file.
__tracebackhide__ = True

#: The operators by their names in the module operator, and their signs. `a += b` is `a.__iadd__(b)`.
_ARITHMETIC: Final[Mapping[str, str]] = {
    "add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "lshift": "<<", "rshift": ">>", "and_": "&", "or_": "|", "xor": "^",
}  # fmt: skip
_IN_PLACE: Final = {f"i{name.strip('_')}": f"{sign}=" for name, sign in _ARITHMETIC.items()}
_COMPARISONS: Final = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INFIX: Final[Mapping[str, str]] = {**_ARITHMETIC, **_IN_PLACE, **_COMPARISONS}
#: The forms of the operators that are not written between two objects; those that are absent are written as functions.
_FORMS: Final[Mapping[str, str]] = {
    "neg": "-{}", "pos": "+{}", "invert": "~{}", "contains": "{1} in {0}", "getitem": "{}[{}]",
    "setitem": "{}[{}] = {}", "delitem": "del {}[{}]", "setattr": "{}.{} = {}",
}  # fmt: skip
_FUNCTIONS: Final = ("str", "repr", "format", "len", "bool", "hash", "int", "float", "abs", "round")
#: The types that Python itself requires of these results.
_RETURNS: Final[Mapping[str, type]] = {
    "str": str, "repr": str, "format": str, "len": int, "bool": bool, "hash": int, "int": int, "float": float,
    "contains": bool,
}  # fmt: skip
_OPERANDS: Final = {**dict.fromkeys(_INFIX, (2,)), "neg": (1,), "pos": (1,), "invert": (1,), "contains": (2,),
                    "getitem": (2,), "setitem": (3,), "delitem": (2,), **dict.fromkeys(_FUNCTIONS, (1,)),
                    "format": (2,), "round": (1, 2)}  # fmt: skip


def operation(name: str, target: object, args: Sequence[Any]) -> tuple[str, tuple[Any, ...]] | None:
    """The operator that calls a special method, and its operands: "__add__" is "add". None for other methods.

    Python calls such a method only by its operator, which also tries the method of the other operand, and handles
    NotImplemented.
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
    """Whether the operation has no result for the test."""
    return name in ("setitem", "delitem", "setattr")


def words(name: str, operands: Sequence[str]) -> str:
    """The operation as source."""
    if name in _INFIX:
        return f" {_INFIX[name]} ".join(operands)
    return _FORMS[name].format(*operands) if name in _FORMS else f"{name}({', '.join(operands)})"


def may_return(name: str, value: object) -> bool:
    """Whether this can be the result of the operation in Python. A box may claim any result."""
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
    """An object of the submission with Python's operators."""

    __slots__ = ()

    def _operate(self, name: str, *operands: Any) -> Any:
        """The result of the operation in the box."""
        raise NotImplementedError

    def _value(self) -> Any:
        """The object's own value; the object if its value cannot be sent."""
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
    """The value of an object of the submission; the object if its value cannot be sent."""
    return thing._value()

"""Classes that hold data (PEP 557), for Python 3.6."""

import copy as _copy
import keyword as _keyword
import sys as _sys
import types as _types
import typing as _typing

__all__ = [
    "dataclass",
    "field",
    "Field",
    "FrozenInstanceError",
    "InitVar",
    "MISSING",
    "fields",
    "asdict",
    "astuple",
    "make_dataclass",
    "replace",
    "is_dataclass",
]

_FIELDS, _PARAMS, _POST_INIT = "__dataclass_fields__", "__dataclass_params__", "__post_init__"


class FrozenInstanceError(AttributeError):
    """An attribute of a frozen object was to be changed."""


class _MissingType:
    def __repr__(self):
        return "MISSING"


class _DefaultFactoryType:
    def __repr__(self):
        return "<factory>"


MISSING, _FACTORY = _MissingType(), _DefaultFactoryType()


class _InitVarMeta(type):
    def __getitem__(cls, parameter):
        return cls


class InitVar(metaclass=_InitVarMeta):
    """Annotates an argument of __init__ that is no field, but is passed to __post_init__."""


class Field:
    """The properties of a field."""

    __slots__ = ("name", "type", "default", "default_factory", "repr", "hash", "init", "compare", "metadata", "_kind")

    def __init__(self, default, default_factory, init, repr, hash, compare, metadata):
        self.name = self.type = self._kind = None
        self.default, self.default_factory = default, default_factory
        self.init, self.repr, self.hash, self.compare = init, repr, hash, compare
        self.metadata = _types.MappingProxyType({} if metadata is None else metadata)

    def __repr__(self):
        shown = ("%s=%r" % (name, getattr(self, name)) for name in self.__slots__[:-1])
        return "Field(%s,_field_type=%s)" % (",".join(shown), self._kind)

    def __set_name__(self, owner, name):
        set_name = getattr(type(self.default), "__set_name__", None)
        if set_name:
            set_name(self.default, owner, name)


class _Params:
    def __init__(self, **flags):
        self.__dict__.update(flags)

    def __repr__(self):
        return "_DataclassParams(%s)" % ",".join("%s=%r" % each for each in self.__dict__.items())


def field(*, default=MISSING, default_factory=MISSING, init=True, repr=True, hash=None, compare=True, metadata=None):
    """Returns a Field, with more properties than a default."""
    if default is not MISSING and default_factory is not MISSING:
        raise ValueError("cannot specify both default and default_factory")
    return Field(default, default_factory, init, repr, hash, compare, metadata)


# --- making a class ---------------------------------------------------------------------------------------------------


def _kind_of(annotation):
    if annotation is InitVar or (isinstance(annotation, str) and "InitVar" in annotation.partition("[")[0]):
        return "_FIELD_INITVAR"
    if isinstance(annotation, str):
        return "_FIELD_CLASSVAR" if "ClassVar" in annotation.partition("[")[0] else "_FIELD"
    is_class_variable = annotation is _typing.ClassVar or type(annotation) is type(_typing.ClassVar)
    return "_FIELD_CLASSVAR" if is_class_variable else "_FIELD"


def _field_of(cls, name, annotation):
    default = getattr(cls, name, MISSING)
    if isinstance(default, _types.MemberDescriptorType):
        default = MISSING  # an attribute of __slots__
    found = default if isinstance(default, Field) else field(default=default)
    found.name, found.type, found._kind = name, annotation, _kind_of(annotation)
    if found._kind != "_FIELD" and found.default_factory is not MISSING:
        raise TypeError("field %s cannot have a default factory" % name)
    if found._kind == "_FIELD" and isinstance(found.default, (list, dict, set)):
        raise ValueError(
            "mutable default %s for field %s is not allowed: use default_factory" % (type(found.default), name)
        )
    return found


def _made(name, arguments, body, names):
    """Makes a function from the lines of its body."""
    text = "def %s(%s):\n%s" % (name, ", ".join(arguments), "".join(" %s\n" % line for line in body or ["pass"]))
    found = {}
    exec(text, names, found)
    return found[name]


def _init(fields, is_frozen, has_post_init, names):
    own = "self" if "self" not in {each.name for each in fields} else "__dataclass_self__"
    arguments, body, optional = [own], [], None
    names.update(MISSING=MISSING, _FACTORY=_FACTORY, __dataclass_object__=object)
    for each in fields:
        default, factory = "_default_" + each.name, "_factory_" + each.name
        names[default], names[factory] = each.default, each.default_factory
        value = each.name
        has_factory = each.default_factory is not MISSING
        if each.init:
            if has_factory or each.default is not MISSING:
                optional = each.name
                arguments.append("%s=%s" % (each.name, "_FACTORY" if has_factory else default))
            elif optional:
                raise TypeError("non-default argument %r follows default argument" % each.name)
            else:
                arguments.append(each.name)
            if has_factory:
                value = "%s() if %s is _FACTORY else %s" % (factory, each.name, each.name)
        elif has_factory:
            value = factory + "()"
        else:
            continue
        if each._kind == "_FIELD":
            setting = "__dataclass_object__.__setattr__(%s, %r, %s)" if is_frozen else "%s.%s = %s"
            body.append(setting % (own, each.name, value))
    if has_post_init:
        init_names = ", ".join(each.name for each in fields if each._kind == "_FIELD_INITVAR")
        body.append("%s.%s(%s)" % (own, _POST_INIT, init_names))
    return _made("__init__", arguments, body, names)


def _tuple(own, names):
    return "(%s)" % "".join("%s.%s, " % (own, name) for name in names)


def _repr(names):
    shown = ", ".join("%s={self.%s!r}" % (name, name) for name in names)
    inner = _made("__repr__", ["self"], ['return self.__class__.__qualname__ + f"(%s)"' % shown], {})
    running = set()

    def shown(self):
        key = id(self)
        if key in running:
            return "..."
        running.add(key)
        try:
            return inner(self)
        finally:
            running.discard(key)

    shown.__name__ = "__repr__"
    return shown


def _comparing(name, operator, names):
    lines = [
        "if other.__class__ is self.__class__:",
        " return %s %s %s" % (_tuple("self", names), operator, _tuple("other", names)),
        "return NotImplemented",
    ]
    return _made(name, ["self", "other"], lines, {})


def _freeze(cls, names):
    def refuse(verb, parent):
        def method(self, name, *value):
            if type(self) is cls or name in names:
                raise FrozenInstanceError("cannot %s field %r" % (verb, name))
            parent(super(cls, self))(name, *value)

        return method

    for method, verb, parent in (
        ("__setattr__", "assign to", lambda above: above.__setattr__),
        ("__delattr__", "delete", lambda above: above.__delattr__),
    ):
        if method in cls.__dict__:
            raise TypeError("Cannot overwrite attribute %s in class %s" % (method, cls.__name__))
        setattr(cls, method, refuse(verb, parent))


def _set(cls, name, value):
    """Sets a method of a class, unless the class has its own. Returns whether it has."""
    if name in cls.__dict__:
        return True
    value.__qualname__ = "%s.%s" % (cls.__qualname__, name)
    setattr(cls, name, value)
    return False


def _gather(cls, frozen):
    found, is_any_frozen, has_bases = {}, False, False
    for base in cls.__mro__[-1:0:-1]:
        known = getattr(base, _FIELDS, None)
        if known is not None and _FIELDS in base.__dict__:
            has_bases = True
            found.update(known)
            is_any_frozen = is_any_frozen or getattr(base, _PARAMS).frozen
    annotations = cls.__dict__.get("__annotations__", {})
    for name, annotation in annotations.items():
        each = found[name] = _field_of(cls, name, annotation)
        if isinstance(cls.__dict__.get(name), Field):
            if each.default is MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, each.default)
    for name, value in cls.__dict__.items():
        if isinstance(value, Field) and name not in annotations:
            raise TypeError("%r is a field but has no type annotation" % name)
    if has_bases and is_any_frozen != frozen:
        raise TypeError(
            "cannot inherit %s dataclass from a %s one"
            % (("frozen", "non-frozen") if frozen else ("non-frozen", "frozen"))
        )
    return found


def _hashing(cls, names, params):
    has_own = cls.__dict__.get("__hash__", MISSING)
    is_explicit = not (has_own is MISSING or (has_own is None and "__eq__" in cls.__dict__))
    hashed = _made("__hash__", ["self"], ["return hash(%s)" % _tuple("self", names)], {})
    if params.unsafe_hash:
        if is_explicit:
            raise TypeError("Cannot overwrite attribute __hash__ in class %s" % cls.__name__)
        cls.__hash__ = hashed
    elif params.eq and not is_explicit:
        cls.__hash__ = hashed if params.frozen else None


def _processed(cls, init, repr, eq, order, unsafe_hash, frozen):
    found = _gather(cls, frozen)
    params = _Params(init=init, repr=repr, eq=eq, order=order, unsafe_hash=unsafe_hash, frozen=frozen)
    setattr(cls, _FIELDS, found)
    setattr(cls, _PARAMS, params)
    if order and not eq:
        raise ValueError("eq must be true if order is true")
    own = [each for each in found.values() if each._kind == "_FIELD"]
    compared = [each.name for each in own if each.compare]
    if init:
        taken = [each for each in found.values() if each._kind != "_FIELD_CLASSVAR"]
        names = dict(getattr(_sys.modules.get(cls.__module__), "__dict__", {}))
        _set(cls, "__init__", _init(taken, frozen, hasattr(cls, _POST_INIT), names))
    if repr:
        _set(cls, "__repr__", _repr([each.name for each in own if each.repr]))
    _hashing(cls, [each.name for each in own if (each.compare if each.hash is None else each.hash)], params)
    if eq:
        _set(cls, "__eq__", _comparing("__eq__", "==", compared))
    if order:
        for name, operator in (("__lt__", "<"), ("__le__", "<="), ("__gt__", ">"), ("__ge__", ">=")):
            if _set(cls, name, _comparing(name, operator, compared)):
                raise TypeError(
                    "Cannot overwrite attribute %s in class %s. Consider using functools.total_ordering"
                    % (name, cls.__name__)
                )
    if frozen:
        _freeze(cls, {each.name for each in own})
    if not cls.__doc__:
        cls.__doc__ = "%s(%s)" % (cls.__name__, ", ".join(each.name for each in own if each.init))
    return cls


def dataclass(_cls=None, *, init=True, repr=True, eq=True, order=False, unsafe_hash=False, frozen=False):
    """Adds __init__, __repr__, __eq__ and other requested methods to a class with annotations."""

    def wrap(cls):
        return _processed(cls, init, repr, eq, order, unsafe_hash, frozen)

    return wrap if _cls is None else wrap(_cls)


# --- using one --------------------------------------------------------------------------------------------------------


def fields(class_or_instance):
    """Returns the fields of a dataclass or of an object of one."""
    try:
        found = getattr(class_or_instance, _FIELDS)
    except AttributeError:
        raise TypeError("must be called with a dataclass type or instance") from None
    return tuple(each for each in found.values() if each._kind == "_FIELD")


def _is_instance(value):
    return hasattr(type(value), _FIELDS)


def is_dataclass(value):
    """Whether this is a dataclass, or an object of one."""
    return hasattr(value if isinstance(value, type) else type(value), _FIELDS)


def _inside(value, made):
    if _is_instance(value):
        return made([(each.name, _inside(getattr(value, each.name), made)) for each in fields(value)])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_inside(each, made) for each in value])
    if isinstance(value, (list, tuple)):
        return type(value)(_inside(each, made) for each in value)
    if isinstance(value, dict):
        return type(value)((_inside(key, made), _inside(each, made)) for key, each in value.items())
    return _copy.deepcopy(value)


def asdict(value, *, dict_factory=dict):
    """Returns the fields of an object as a dict, with nested dataclasses as dicts."""
    if not _is_instance(value):
        raise TypeError("asdict() should be called on dataclass instances")
    return _inside(value, dict_factory)


def astuple(value, *, tuple_factory=tuple):
    """Returns the values of an object's fields as a tuple, with nested dataclasses as tuples."""
    if not _is_instance(value):
        raise TypeError("astuple() should be called on dataclass instances")
    return _inside(value, lambda pairs: tuple_factory([each for _, each in pairs]))


def make_dataclass(cls_name, fields, *, bases=(), namespace=None, **params):
    """Makes a dataclass from (name, type, default) of its fields; the type and the default may be missing."""
    names, annotations = dict(namespace or {}), {}
    for each in fields:
        name, annotation, *default = (each, "typing.Any") if isinstance(each, str) else each
        if not isinstance(name, str) or not name.isidentifier():
            raise TypeError("Field names must be valid identifiers: %r" % (name,))
        if _keyword.iskeyword(name):
            raise TypeError("Field names must not be keywords: %r" % name)
        if name in annotations:
            raise TypeError("Field name duplicated: %r" % name)
        annotations[name] = annotation
        if default:
            names[name] = default[0]
    names["__annotations__"] = annotations
    return dataclass(_types.new_class(cls_name, bases, {}, lambda own: own.update(names)), **params)


def replace(obj, **changes):
    """Returns a new object of the same class, in which some fields have other values."""
    if not _is_instance(obj):
        raise TypeError("replace() should be called on dataclass instances")
    for each in getattr(obj, _FIELDS).values():
        if each._kind == "_FIELD_CLASSVAR":
            continue
        if not each.init:
            if each.name in changes:
                raise ValueError(
                    "field %s is declared with init=False, it cannot be specified with replace()" % each.name
                )
        elif each.name not in changes:
            if each._kind == "_FIELD_INITVAR" and each.default is MISSING:
                raise ValueError("InitVar %r must be specified with replace()" % each.name)
            changes[each.name] = getattr(obj, each.name)
    return type(obj)(**changes)

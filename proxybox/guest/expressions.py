"""Expressions that are evaluated separately: an expression does not find names that another one has assigned."""

import linecache

import kind
import values

hidden = kind.hidden

#: NAME: the name of an expression in tracebacks. MOST: how many expressions, of at most LONGEST characters each, are
#: stored as code; and how many functions are stored.
NAME, MOST, LONGEST = "<expression>", 512, 4096
#: Types of values that an expression could change. Of all other values, all expressions share one object.
CHANGEABLE = (list, tuple, dict, set)


class Expressions:
    """The shared state of expressions. new_function: makes a function that calls the caller's of that name."""

    def __init__(self, new_function):
        self.new_function = new_function
        self.functions = {}
        self.lent = {}  # values that an expression could change, encoded
        self.known = {}  # by source, the oldest first: the code, and the names of these values in it

    @hidden
    def lend(self, names, functions):
        """Stores the values and functions for all expressions, and returns their names for the namespace."""
        for name, value in names.items():
            if isinstance(value, CHANGEABLE):
                self.lent[name] = values.encode(value, 1 << 30)
        self.known.clear()
        return {**names, **{name: self.function(name) for name in functions}}

    @hidden
    def function(self, name):
        if name not in self.functions:
            if len(self.functions) >= MOST:
                self.functions.clear()
            self.functions[name] = self.new_function(name)
        return self.functions[name]

    @hidden
    def prepared(self, source, flags):
        """Returns the code of an expression, and the names of lent values in it."""
        found = self.known.get(source)
        if found is None:
            code = compile(source.lstrip(" \t"), NAME, "eval", flags, True)
            found = code, [name for name in self.lent if name in source]
            if len(source) <= LONGEST:
                if len(self.known) >= MOST:
                    del self.known[next(iter(self.known))]
                self.known[source] = found
        return found

    @hidden
    def scope(self, base, lent, names, functions):
        """Returns the namespace of an expression: a copy of `base`, new copies of lent values, and its own names."""
        scope = base.copy()
        for name in lent:
            scope[name] = values.decode(self.lent[name], 1 << 30)
        for name in functions:
            scope[name] = self.function(name)
        scope.update(names)
        return scope

    @hidden
    def show(self, source):
        """Stores the lines of an expression for tracebacks."""
        linecache.cache[NAME] = len(source), None, (source + "\n").splitlines(True), NAME

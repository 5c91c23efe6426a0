"""Expressions that are evaluated apart from each other: a name that one assigns, the next does not find."""

import linecache

import kind
import values

hidden = kind.hidden

#: NAME: the name of an expression in tracebacks. MOST: how many are kept compiled, of at most LONGEST characters each,
#: and how many functions.
NAME, MOST, LONGEST = "<expression>", 512, 4096
#: What an expression could change. Of all other values that cross, one object does for all expressions.
CHANGEABLE = (list, tuple, dict, set)


class Expressions:
    """What expressions have in common. new_function: makes a function that calls the caller's of that name."""

    def __init__(self, new_function):
        self.new_function = new_function
        self.functions = {}
        self.lent = {}  # values that an expression could change, encoded
        self.known = {}  # of sources, the oldest first: the code, and which of these values it names

    @hidden
    def lend(self, names, functions):
        """Takes what all expressions are given, and returns what belongs into the namespace for that."""
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
        """The code of an expression, and the names of lent values in it."""
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
        """The namespace of an expression: a copy of `base`, lent values as they came, and what is its alone."""
        scope = base.copy()
        for name in lent:
            scope[name] = values.decode(self.lent[name], 1 << 30)
        for name in functions:
            scope[name] = self.function(name)
        scope.update(names)
        return scope

    @hidden
    def show(self, source):
        """Lets a traceback show the lines of an expression."""
        linecache.cache[NAME] = len(source), None, (source + "\n").splitlines(True), NAME

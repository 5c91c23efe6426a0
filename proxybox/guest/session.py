"""The guest's side of a session: it receives one command at a time and sends back the result.

Nothing here is trusted: the program shares this process. The controller treats all messages as claims.
"""

import __future__

import _collections
import _signal
import ast
import linecache
import marshal
import sys
import tokenize
import traceback

import cells
import completion
import expressions
import kind
import leftopen
import program
import showing
import standins
import values

hidden = kind.hidden

#: NAME: the name of a source in tracebacks. MOST: how many sources are remembered. FILE: the file name of __main__,
#: under which all of them together are found.
NAME, MOST, FILE = "<session-%d>", 1000, "<session>"
TASK = 1 << 26
NULLS = program.NULLS
FUTURES = 0
for feature in __future__.all_feature_names:
    FUTURES |= getattr(__future__, feature).compiler_flag


class Main(type(sys)):
    """The module __main__, whose class has a `__file__` so that `inspect.getsource` finds classes.

    The namespace itself has no name `__file__`. Since Python 3.13 a class knows its line, but not its source:
    `inspect.getsource` would return lines of another source, so it gets no file.
    """

    if sys.version_info < (3, 13):
        __file__ = FILE


class Sources:
    """Provides lines of sources without a file, for tracebacks, warnings and `inspect`."""

    def __init__(self):
        self.count = 0
        self.kept = _collections.deque()  # (name, its number of `lines`), the oldest first
        self.uses = {}  # how often each name is in `kept`
        self.lines = []  # sources with classes, the newest first: of two classes with one name the newer is found

    def name(self):
        self.count += 1
        return NAME % self.count

    def remember(self, source, name):
        lines = source.splitlines(True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        has_class = "class" in source
        if has_class:
            self.lines[:0] = lines
        self.kept.append((name, len(lines) if has_class else 0))
        self.uses[name] = self.uses.get(name, 0) + 1
        if len(self.kept) > MOST:
            self.forget(*self.kept.popleft())
        for cache in self.caches():
            cache[name] = len(source), None, lines, name
            cache[FILE] = len(self.lines), None, self.lines, FILE

    def of_class(self, look, thing):
        """Returns the source of a class that knows its line, or None. look: the library's module `inspect`."""
        line, begin = vars(thing).get("__firstlineno__"), f"class {thing.__name__}"
        for name, _ in reversed(self.kept) if isinstance(line, int) and line > 0 else ():
            block = look.getblock(linecache.cache[name][2][line - 1 :])
            if any(each.lstrip().startswith(begin) for each in block):
                return "".join(block)
        return None

    def forget(self, name, count):
        if count:
            del self.lines[-count:]
        self.uses[name] -= 1
        if not self.uses[name]:
            del self.uses[name]
            for cache in self.caches():
                cache.pop(name, None)

    def caches(self):
        """Yields the cache of our own linecache, and the program's if that is another module."""
        yield linecache.cache
        theirs = getattr(sys.modules.get("linecache"), "cache", None)
        if theirs is not linecache.cache and isinstance(theirs, dict):
            yield theirs


class Namespace:
    """The namespace of a session, and the commands that work on it."""

    def __init__(self, new_main, own, limit, screen, new_function):
        self.new_main, self.own, self.limit, self.screen = new_main, own, limit, screen
        self.sources, self.expressions = Sources(), expressions.Expressions(new_function)
        self.flags = 0  # the compiler flags of all `from __future__` imports so far
        self.running = self.told = False
        self.frame = self.theirs = None
        self.left_open = leftopen.LeftOpen()
        self.do_reset()

    # --- commands: each returns a value -------------------------------------------------------------------------------
    # Commands that run the program's own code yield it, (function, arguments): it is called with none of our visible
    # frames below it, and its result is sent back.

    @hidden
    def run_exec(self, source, name, echo):
        if not echo:
            kind.result_of((yield exec, (self.compiled(source, name, "exec"), self.names)))
            return
        self.screen.install()
        try:
            for step in self.parts(source, name or self.sources.name(), echo != "display"):
                kind.result_of((yield step))
        except BaseException as error:
            step = self.screen.end_cell(error)
            if step is not None:
                yield step  # its result is ignored: the cell's own exception is reported
            raise
        step = self.screen.end_cell()
        if step is not None:
            kind.result_of((yield step))

    @hidden
    def run_eval(self, source):
        return kind.result_of((yield eval, (self.compiled(source.lstrip(" \t"), "", "eval"), self.names)))

    @hidden
    def run_evaluate(self, source, names, functions):
        """Evaluates an expression in a copy of the namespace, so that its assignments are dropped."""
        code, lent = self.expressions.prepared(source, self.flags | NULLS)
        scope = self.expressions.scope(self.names, lent, names, functions)
        try:
            return kind.result_of((yield eval, (code, scope)))
        except BaseException:
            self.expressions.show(source)
            raise

    @hidden
    def do_lend(self, names, functions):
        """Sets names for each `evaluate`: variables with their current values, and functions of the caller."""
        self.names.update(self.expressions.lend(names, functions))

    @hidden
    def run_call(self, name, args, kwargs):
        return kind.result_of((yield self.find(name), args, kwargs))

    @hidden
    def run_fork(self):
        return kind.result_of((yield kind.fork, (self.screen.link.calls,)))

    @hidden
    def run_left_open(self, what, descriptors):
        """A command that the controller itself sends (controller/warm/leftopen.py). what: "close" or "save"."""
        kind.result_of((yield getattr(self.left_open, what), (descriptors,)))

    @hidden
    def do_get(self, name):
        return self.find(name)

    @hidden
    def do_set(self, new):
        self.names.update(new)

    @hidden
    def do_reset(self):
        self.names = self.new_main(Main).__dict__
        self.flags = 0

    @hidden
    def do_complete(self, text, cursor):
        return completion.complete(self.names, text, cursor)

    @hidden
    def do_inspect(self, text, cursor, detail):
        return completion.inspect(self.own("inspect"), self.sources, self.names, text, cursor, detail)

    @hidden
    def do_is_complete(self, text):
        return completion.is_complete(text)

    # --- running the commands -----------------------------------------------------------------------------------------

    @hidden
    def compiled(self, source, name, mode):
        name = name or self.sources.name()
        code = compile(source, name, mode, self.flags | NULLS, True)
        self.flags |= code.co_flags & FUTURES
        self.sources.remember(source, name)
        return code

    @hidden
    def parts(self, source, name, shows_value):
        """Yields the steps of statements, and separately of a last expression whose value is shown."""
        tree, plain, asked = cells.parsed(source, name, self.flags | NULLS)
        self.sources.remember(source, name)
        for formats in asked:
            yield standins.set_up, (formats,)
        has_value = shows_value and tree.body and isinstance(tree.body[-1], ast.Expr)
        has_value = has_value and not cells.is_hushed(plain, tree.body[-1])
        last = tree.body.pop() if has_value else None
        for part, mode in ((tree, "exec"), (last and ast.Interactive([last]), "single")):
            if part is not None:
                code = compile(part, name, mode, self.flags, True)
                self.flags |= code.co_flags & FUTURES
                yield exec, (code, self.names)

    @hidden
    def find(self, name):
        """Returns the object of a name in the namespace; the name may have dots."""
        return completion.look_up(self.names, name)

    @hidden
    def answer(self, command):
        """Yields the steps of a command; returns its encoded result. The program's code in it can be interrupted."""
        if self.theirs is not None:
            _signal.signal(_signal.SIGINT, self.theirs)
        self.told, self.running = False, True
        try:
            try:
                try:
                    run = getattr(self, "run_" + command[0], None)
                    if run is None:
                        value = getattr(self, "do_" + command[0])(*command[1:])
                    else:
                        value = yield from run(*command[1:])
                finally:
                    if command[0] != "fork":  # a CPython reads the clock for each stream, also in a copy
                        flush()
                        if self.left_open.known:
                            self.left_open.flush()
                return self.encode(value)
            except SystemExit as error:
                return values.encode(("exit", exit_code(error.code)))
            except BaseException as error:
                kind.cut(error)
                if command[0] in ("exec", "eval", "call"):
                    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
                    if sys.version_info >= (3, 12):
                        sys.last_exc = error
                return tell(error)
        except BaseException as error:  # raised while the exception was encoded
            return values.encode(("error", name_of(type(error)), "", ""))
        finally:
            self.running = False
            self.shield()

    @hidden
    def encode(self, value):
        try:
            return values.encode(("ok", value), self.limit, ("", "value"))
        except (TypeError, ValueError) as error:
            return values.encode(("value", str(error)[:4096]))

    @hidden
    def shield(self):
        """Resets the handler of SIGINT between commands. The program's own handler is stored for the next command."""
        handler = _signal.getsignal(_signal.SIGINT)
        self.theirs = None if handler is _signal.default_int_handler else handler
        if self.theirs is not None:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)

    def take_interrupts(self):
        """Makes SIGINT interrupt only the program, and no code here.

        It interrupts once in each command, wherever the program's own code runs.
        """

        files = kind.FILES

        # Makes no call before the checks: during a call the next signal would be handled, so many signals would nest
        # handlers.
        @hidden
        def default_int_handler(number, frame):
            """Raises KeyboardInterrupt, while a command runs."""
            if not self.running:
                return
            try:
                # None: in a function in C that was called from the steps (`session.call("time.sleep", 5)`)
                seen = files and frame is not None and frame.f_code.co_filename in files
                ours = self.told and (seen or frame is self.frame)
            except UnboundLocalError:  # while one of our generators ends, a PyPy passes no frame
                ours = True
            if not ours:
                self.told = True
                raise KeyboardInterrupt

        default_int_handler.__module__ = "_signal"
        for module in (_signal, sys.modules.get("signal")):
            if module is not None:
                module.default_int_handler = default_int_handler
        _signal.signal(_signal.SIGINT, default_int_handler)


@hidden
def tell(error):
    """Returns an exception, encoded: its type, message and traceback, each of bounded size."""
    name = name_of(type(error))
    try:
        message = str.__getitem__(str(error), slice(8192))
    except Exception:
        message = "<exception str() failed>"
    try:
        with completion.Lent(ast, tokenize):  # the library imports them only when it needs them
            text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        text = f"{name}: {message}\n"
    return values.encode(("error", name, message, text[-49152:]), 1 << 20)


@hidden
def name_of(made):
    """Returns the real name of a class, even if its metaclass has another."""
    return type.__dict__["__name__"].__get__(made)[:256]


@hidden
def exit_code(code):
    """Returns the exit code as the interpreter computes it; for a value that is no number, prints it and returns 1."""
    if code is None:
        return 0
    try:
        return kind.exit_status(code) & 0xFF
    except Exception:
        print(code, file=sys.stderr)
        flush()
        return 1


@hidden
def flush():
    """Flushes the program's current output streams, and the original ones."""
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        try:
            getattr(sys, name).flush()
        except Exception:
            pass


@hidden
def read(message):
    """Returns the command in a message of the controller: marshal of texts and numbers, or a value."""
    if message[:1] == b"m":
        return marshal.loads(message[1:])  # noqa: S302 - the controller has made it
    return values.decode(message[1:], TASK)


@hidden
def steps(link, new_main, own, limit, new_function):
    """Yields the steps of a session: commands until the box ends. new_function: makes one that calls the caller's."""
    sys.argv[:] = [""]
    if hasattr(sys, "orig_argv"):
        del sys.orig_argv[1:]
    sys.path.insert(0, "")
    sys.modules.setdefault("linecache", linecache)
    session = Namespace(new_main, own, limit, showing.Display(link, limit, flush), new_function)
    session.frame = sys._getframe()  # where frames are hidden, the one below the program's
    session.take_interrupts()
    result = b""
    while True:
        try:
            while True:
                result = yield from session.answer(read(link.exchange(b"r" + result)))
        # an interrupt at the end of a command, or an exception of another handler between two commands
        except BaseException as error:
            session.running = False
            result = tell(error)


def warm(new_main):
    """See bootstrap.warm."""

    def fail():
        raise ValueError

    standins.read_all()
    session = Namespace(new_main, None, 1 << 20, None, None)
    for _ in range(20):
        carry_out(session.answer(read(b"m" + marshal.dumps(("eval", "1+1"), 2))))
    carry_out(session.answer(("exec", "x = 1", "", False)))
    carry_out(session.answer(("evaluate", "x", {"y": 1}, ())))
    try:
        fail()
    except ValueError as error:
        tell(error)
    linecache.cache.clear()


def carry_out(steps):
    """Carries out steps that do not fail."""
    came = None
    try:
        while True:
            function, arguments = steps.send(came)
            came = function(*arguments), None
    except StopIteration:
        pass

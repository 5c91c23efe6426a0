"""A session, as the guest leads it: commands come, one at a time, and results go.

Nothing here is trusted: the program shares this process. The controller takes whatever comes for a claim.
"""

import sys

import __pypy__
import completion
import values

hidden = __pypy__.hidden_applevel

#: Sources are kept for tracebacks under such names.
NAME = "<session-%d>"


class Session:
    """The namespace, and what can be done with it."""

    def __init__(self, link, new_main):
        self.link = link
        self.new_main = new_main
        self.main = new_main()
        self.running = False
        self.count = 0
        sys.argv = [""]
        sys.path.insert(0, "")

    @property
    def names(self):
        return self.main.__dict__

    # --- commands: each gives a value ---------------------------------------------------------------------------------

    @hidden
    def do_exec(self, source, name):
        exec(compile(source, self.remember(source, name), "exec", 0, True), self.names)

    @hidden
    def do_eval(self, source):
        return eval(compile(source.lstrip(" \t"), "<eval>", "eval", 0, True), self.names)

    @hidden
    def do_call(self, name, args, kwargs):
        return self.find(name)(*args, **kwargs)

    @hidden
    def do_get(self, name):
        return self.find(name)

    def do_set(self, new):
        self.names.update(new)

    def do_reset(self):
        self.main = self.new_main()

    def do_fork(self):
        import os

        return os.fork()

    def do_complete(self, text, cursor):
        return completion.complete(self.names, text, cursor)

    def do_inspect(self, text, cursor, detail):
        return completion.inspect(self.names, text, cursor, detail)

    def do_is_complete(self, text):
        return completion.is_complete(text)

    # --- around them --------------------------------------------------------------------------------------------------

    def find(self, name):
        """A name of the namespace, with dots."""
        first, *rest = name.split(".")
        if first in self.names:
            found = self.names[first]
        else:
            import builtins

            if not hasattr(builtins, first):
                raise NameError(f"name {first!r} is not defined")
            found = getattr(builtins, first)
        for part in rest:
            found = getattr(found, part)
        return found

    def remember(self, source, name):
        """Lets tracebacks show lines of what has no file."""
        self.count += 1
        name = name or NAME % self.count
        cache = sys.modules.get("linecache")
        if cache is not None:
            cache.cache[name] = (len(source), None, source.splitlines(True), name)
        return name

    @hidden
    def answer(self, command):
        """What came of a command, encoded."""
        self.running = True
        try:
            value = getattr(self, "do_" + command[0])(*command[1:])
            self.running = False
            return self.encode(value)
        except SystemExit as error:
            self.running = False
            return values.encode(("exit", exit_code(error.code)))
        except BaseException as error:
            self.running = False
            return self.tell(error)

    def encode(self, value):
        try:
            return values.encode(("ok", value), self.limit)
        except (TypeError, ValueError) as error:
            return values.encode(("value", str(error)[:4096]))

    def tell(self, error):
        """An exception: its type, words and traceback, each of bounded size."""
        import traceback

        kind = type(error).__name__
        try:
            message = str(error)
        except BaseException:
            message = "<str() of this exception failed>"
        try:
            text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        except BaseException:
            text = f"{kind}: {message}"
        return values.encode(("error", kind[:256], message[:16384], text[-65536:]), 1 << 20)

    def interrupted(self, number, frame):
        """SIGINT interrupts the program, and nothing else here."""
        if self.running:
            raise KeyboardInterrupt


def exit_code(code):
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass


@hidden
def lead(link, new_main, limit):
    """Until the box ends."""
    import signal

    session = Session(link, new_main)
    session.limit = limit
    signal.signal(signal.SIGINT, session.interrupted)
    result = b""
    while True:
        command = values.decode(link.exchange(b"r" + result), 1 << 26)
        try:
            result = session.answer(command)
            flush()
        except KeyboardInterrupt as error:  # it came a moment too late
            session.running = False
            result = session.tell(error)


def warm():
    """See bootstrap.warm."""
    import signal
    import traceback

    def fail():
        raise ValueError

    session = Session(None, dict)
    session.limit = 1 << 20
    session.main = type(sys)("warm")
    for _ in range(200):
        session.answer(values.decode(values.encode(("eval", "1+1"))))
    try:
        fail()
    except ValueError:
        traceback.format_exc()
    sys.path.remove("")
    signal.getsignal(signal.SIGINT)

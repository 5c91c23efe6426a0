"""Signals, where none reaches the program: handlers are stored, and never called."""

SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGUSR1 = range(1, 11)
SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, _, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP = range(11, 21)
SIGTTIN, SIGTTOU, SIGURG, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGPWR, SIGSYS = range(21, 32)
SIGIOT, SIGCLD, SIGPOLL, SIGRTMIN, SIGRTMAX = SIGABRT, SIGCHLD, SIGIO, 34, 64
NSIG = 65
SIG_DFL, SIG_IGN = 0, 1


def default_int_handler(signum, frame):
    """The default handler for SIGINT installed by Python: it raises KeyboardInterrupt."""
    raise KeyboardInterrupt


_handlers = {SIGINT: default_int_handler, SIGPIPE: SIG_IGN}
_wakeup = [-1]


def _checked(signum):
    if not 1 <= signum < NSIG:
        raise ValueError("signal number out of range")
    return signum


def signal(signum, handler):
    """Stores a handler, and returns the handler before it."""
    if not callable(handler) and handler not in (SIG_DFL, SIG_IGN):
        raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
    if _checked(signum) in (SIGKILL, SIGSTOP):
        raise OSError(22, "Invalid argument")
    before = getsignal(signum)
    _handlers[signum] = handler
    return before


def getsignal(signum):
    """Returns the handler of a signal."""
    return _handlers.get(_checked(signum), SIG_DFL)


def siginterrupt(signum, flag):
    """Does nothing: no call is interrupted."""
    _checked(signum)


def set_wakeup_fd(fd):
    """Stores a descriptor to which nothing is written, and returns the descriptor before it."""
    before, _wakeup[0] = _wakeup[0], fd
    return before


del _

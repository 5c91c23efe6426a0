"""Prepares a program, so that it finds the same environment as with a bare interpreter."""

import sys

import kind

#: How many bytes of a file are read at once.
PIECE = 1 << 19
# the source may hold null bytes: the compiler reports their position
NULLS = getattr(sys.modules.get("_ast"), "PyCF_ACCEPT_NULL_BYTES", 0)


def new_main(made=None):
    """Returns an empty module __main__. made: its class."""
    module = (made or type(sys))("__main__")
    module.__loader__ = sys.__loader__
    for name in kind.NAMES:
        setattr(module, name, sys.modules["builtins"] if name == "__builtins__" else {})
    sys.modules["__main__"] = module
    return module


@kind.hidden
def prepare(link, words, main_source=None, folder=None):
    """Returns the function and its arguments that run -c TEXT, -m MODULE, - or a path, with the program's arguments.

    It follows PyPy's app_main.py and CPython's Modules/main.c. main_source: the content of the file of that path, and
    folder: its folder, without symbolic links; None where they are not known.
    """
    first, main = words[0], new_main()
    sys.argv[:] = [first, *words[2:]] if first in ("-c", "-m") else words
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[1:] = words
    if first == "-c":
        sys.path.insert(0, "")
        check_text(words[1])
        return kind.run_text(words[1], main.__dict__)
    if first == "-m":
        sys.path.insert(0, sys.modules["os.path"].abspath("."))
        import runpy

        return runpy._run_module_as_main, (words[1],)
    if first == "-":
        sys.path.insert(0, "")
        main.__file__, main.__cached__ = "<stdin>", None
        return exec, (compile(sys.stdin.read(), "<stdin>", "exec", NULLS, True), main.__dict__)
    path = first if first.startswith("/") else sys.modules["posix"].getcwd() + "/" + first
    main.__file__, main.__cached__ = path, None
    source, has_path = (main_source, False) if main_source is not None and b"PK\5\6" not in main_source else read(path)
    if has_path:
        import runpy

        sys.path.insert(0, path)
        return runpy._run_module_as_main, ("__main__", False)
    sys.path.insert(0, folder or kind.folder_of(path))
    loaders = sys.modules["_frozen_importlib_external"]
    is_compiled = path.endswith(".pyc")
    loader = loaders.SourcelessFileLoader if is_compiled else loaders.SourceFileLoader
    main.__loader__ = loader("__main__", path if is_compiled or kind.LOADS_ABSOLUTE else first)
    try:
        code = compiled(source) if is_compiled else compile(source, path, "exec", NULLS, True)
    except Exception as error:
        broken = error
    else:
        return exec, (code, main.__dict__)
    return kind.broken(link, path, broken)


@kind.hidden
def check_text(text):
    try:
        text.encode()
    except UnicodeError:
        print("Unable to decode the command from the command line:", file=sys.stderr)
        raise


@kind.hidden
def read(path):
    """Returns the content of a file, and whether it is imported from instead of run: a folder or an archive."""
    posix = sys.modules["posix"]
    content = b""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            piece = posix.read(fd, PIECE)
            while piece:
                content += piece
                piece = posix.read(fd, PIECE)
        finally:
            posix.close(fd)
    except IsADirectoryError:
        return content, True
    except OSError as error:
        raise SystemExit(kind.cannot_open(path, error)) from None
    return content, b"PK\5\6" in content[-(22 + 65535) :] and is_archive(path)


def is_archive(path):
    zipimport = sys.modules["zipimport"]
    try:
        zipimport.zipimporter(path)
    except zipimport.ZipImportError:
        return False
    return True


@kind.hidden
def compiled(content):
    """Returns the code in a .pyc file."""
    import marshal
    from importlib._bootstrap_external import MAGIC_NUMBER

    if content[:4] != MAGIC_NUMBER:
        raise RuntimeError("Bad magic number in .pyc file")
    if len(content) < 16:
        raise RuntimeError("Truncated .pyc file")
    code = marshal.loads(content[16:])  # noqa: S302 - what runs it may do anything in here
    if type(code) is not type(read.__code__):
        raise RuntimeError("Bad code object in .pyc file")
    return code

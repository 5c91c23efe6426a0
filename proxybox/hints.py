"""What may help with an exception that comes of where a program runs: a module that is not in the box, a PyPy's ways.

The exception is what the program printed, a claim; a hint repeats nothing of it but the name of a module.
"""

import re
import sys

_CPYTHON = 'run the program with a CPython (--guest cpython, guest="cpython")'
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_HINTS = (
    ("ModuleNotFoundError", r"'_tracemalloc'", f"a PyPy has no tracemalloc: {_CPYTHON}"),
    ("AttributeError", r"module 'sys' has no attribute 'getrefcount'", f"a PyPy does not count references: {_CPYTHON}"),
    ("AttributeError", r"module 'ctypes' has no attribute 'pythonapi'", f"a PyPy has no C API by ctypes: {_CPYTHON}"),
    (
        "OSError", r"\[Errno 24\] Too many open files",
        "limits.open_files; close files when they are done with (`with open(...)`): a PyPy closes what nothing refers "
        "to only when it collects garbage",
    ),
    (
        "ImportError", r"(?i)numpy C-extensions failed|you should not try to import numpy from its source directory",
        "these packages may have been installed for another interpreter: see proxybox guests",
    ),
)  # fmt: skip


def hint(kind: str, message: str) -> str:
    """Returns what may help with an exception of a program; "" where nothing is known.

    kind, message: the exception's, as `Result.error` has them.
    """
    for its_kind, pattern, text in _HINTS:
        if kind == its_kind and re.search(pattern, message):
            return text
    missing = _NO_MODULE.search(message) if kind == "ModuleNotFoundError" else None
    if missing is None:
        return ""
    name = missing[1].partition(".")[0]
    if name in sys.stdlib_module_names:
        return "" if "." in missing[1] else f"this interpreter was installed without {name}"
    return (
        f"{name} is not in the box, which sees the standard library and the packages that are named for it "
        "(--packages, packages=)"
    )

"""Files that a command of a session has left open for writing: what is still in a buffer is written to the file.

A PyPy closes a file that nothing refers to only when its garbage collector finds it, and so does a CPython with one in a
cycle. The controller knows which files are open, and asks for this where there are any (controller/warm/leftopen.py).
"""

import _io
import _weakref
import gc

import kind

hidden = kind.hidden

#: The classes whose objects keep what is written in a buffer. Text is flushed first: it goes to the bytes.
TEXT = _io.TextIOWrapper
WRITERS = (TEXT, _io.BufferedWriter, _io.BufferedRandom)


class LeftOpen:
    """What writes to files that stay open."""

    def __init__(self):
        self.collect, self.objects = gc.collect, gc.get_objects  # whatever the program makes of these names
        self.known = []  # weak references

    @hidden
    def find(self, descriptors):
        """Collects, and remembers what still writes to the files of these descriptors."""
        self.collect()
        found = {}
        for each in self.objects():
            made = type(each)
            if issubclass(made, WRITERS):
                number = number_of(each)
                if number in descriptors:
                    found.setdefault((not issubclass(made, TEXT), number), []).append(_weakref.ref(each))
        for place in sorted(found):  # a replay finds the objects in another order
            self.known += found[place]

    @hidden
    def flush(self):
        """Flushes all that is remembered, and forgets what is closed. What cannot be written stays in its buffer."""
        alive = []
        for reference in self.known:
            each = reference()
            try:
                if each is not None:
                    each.flush()
                    alive.append(reference)
            except ValueError:  # it is closed
                pass
            except Exception:
                alive.append(reference)
        self.known = alive


@hidden
def number_of(file):
    """The descriptor of an open file; None where it has none."""
    try:
        return file.fileno()
    except Exception:
        return None

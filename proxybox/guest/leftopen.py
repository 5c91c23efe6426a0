"""Files that a command of a session has left open for writing: what is still in a buffer is written to the file.

A PyPy closes a file that nothing refers to only when its garbage collector finds it; so does a CPython with one in a
cycle. The controller knows which files are open, and asks for this where there are any (controller/warm/leftopen.py).
"""

import _io
import _weakref
import gc

import kind

hidden = kind.hidden

#: The classes whose objects keep what is written in a buffer.
TEXT = _io.TextIOWrapper
WRITERS = (TEXT, _io.BufferedWriter, _io.BufferedRandom)


class LeftOpen:
    """What writes to files that stay open. Both methods are given descriptors of files."""

    def __init__(self):
        self.collect, self.objects = gc.collect, gc.get_objects  # whatever the program makes of these names
        self.known = []  # weak references

    @hidden
    def close(self, descriptors):
        """Has what nothing refers to closed."""
        if kind.SEES_GARBAGE:  # in a cycle the bytes may be closed first, and what is in the text's buffer lost
            flushed(self.writers(descriptors))
        self.collect()

    @hidden
    def save(self, descriptors):
        """Does the same for what others wrote to when they were closed, and remembers all that is open after that."""
        self.collect()
        self.known += self.writers(descriptors)

    @hidden
    def flush(self):
        """Flushes what is remembered, and forgets what is closed. This is done after each command."""
        known, self.known = self.known, []  # an interrupt forgets what cannot be flushed in time
        self.known = flushed(known)

    @hidden
    def writers(self, descriptors):
        """Weak references to all that writes to these files: text first, which is flushed to the bytes."""
        found = {}
        for each in self.objects():
            made = type(each)
            if issubclass(made, WRITERS):
                number = number_of(each)
                if number in descriptors:
                    found.setdefault((not issubclass(made, TEXT), number), []).append(_weakref.ref(each))
        return [writer for place in sorted(found) for writer in found[place]]  # in a replay, in the same order


@hidden
def number_of(file):
    """The descriptor of an open file; None where it has none."""
    try:
        return file.fileno()
    except Exception:
        return None


@hidden
def flushed(references):
    """Flushes files, and returns those that are open still. What cannot be written stays in its buffer."""
    still = []
    for reference in references:
        file = reference()
        try:
            if file is not None:
                file.flush()
                still.append(reference)
        except ValueError:  # it is closed
            pass
        except Exception:
            still.append(reference)
    return still

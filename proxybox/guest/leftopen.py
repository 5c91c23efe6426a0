"""Files that a command of a session has left open for writing: their buffers are written to the files.

A PyPy closes a file without references only when its garbage collector finds it; so does a CPython with a file in a
cycle. The controller knows which files are open, and requests this if there are any (controller/warm/leftopen.py).
"""

import _io
import _weakref
import gc

import kind

hidden = kind.hidden

#: The classes whose objects have a buffer for written data.
TEXT = _io.TextIOWrapper
WRITERS = (TEXT, _io.BufferedWriter, _io.BufferedRandom)


class LeftOpen:
    """The objects that write to files which stay open. `close` and `save` get descriptors of files."""

    def __init__(self):
        self.collect, self.objects = gc.collect, gc.get_objects  # stored, because the program may replace these names
        self.known = []  # weak references

    @hidden
    def close(self, descriptors):
        """Collects garbage, which closes files without references."""
        if kind.SEES_GARBAGE:  # in a cycle the binary file may be closed first, and the text's buffer lost
            flushed(self.writers(descriptors))
        self.collect()

    @hidden
    def save(self, descriptors):
        """Collects once more, for files to which others wrote when they were closed; then remembers all open files."""
        self.collect()
        self.known += self.writers(descriptors)

    @hidden
    def flush(self):
        """Flushes the remembered files, and forgets closed ones. This is done after each command."""
        known, self.known = self.known, []  # an interrupt forgets files that were not flushed in time
        self.known = flushed(known)

    @hidden
    def writers(self, descriptors):
        """Returns weak references to the writers of these files: text first, which is flushed to the binary files."""
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
    """Returns the descriptor of an open file; None where it has none."""
    try:
        return file.fileno()
    except Exception:
        return None


@hidden
def flushed(references):
    """Flushes files, and returns those that are still open. Data that cannot be written stay in the buffer."""
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

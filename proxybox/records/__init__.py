"""Records of runs, as callers use them: taken, read, replayed, explained, compared, signed.

Rule: the content of a record is a claim of the person who wrote the file. It is shown as text and never trusted: a
replay runs in a box like any program.
"""

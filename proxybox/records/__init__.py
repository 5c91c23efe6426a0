"""Records of runs, as callers use them: taken, read, replayed, explained, compared, signed.

Rule: what a record says is a claim of whoever wrote the file. It is shown as text and never believed: a replay runs in
a box like any program.
"""

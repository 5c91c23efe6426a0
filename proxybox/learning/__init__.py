"""What a policy has to allow so that a program passes: observed in enforced boxes, and proposed.

Rule: nothing here starts a box, prints, or asks; the command does (cli/learn.py). What a guest has asked for is
untrusted: it is bounded here, and it becomes a part of a policy only by the answer of a caller.
"""

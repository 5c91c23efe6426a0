"""Finds out in enforced boxes what a policy must allow so that a program passes, and proposes it.

Rule: nothing here starts a box, prints, or asks; the command does (cli/learn.py). The requests of a guest are
untrusted: they are bounded here, and become a part of a policy only by the answer of a caller.
"""

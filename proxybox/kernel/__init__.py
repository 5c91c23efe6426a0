"""The Jupyter kernel: every cell of a notebook runs in a box.

Rule: it uses only the public session API. Readers trust the page of a notebook, so everything that a box sends passes
through sanitising.py first.
"""

"""The Jupyter kernel: every cell of a notebook runs in a box.

Rule: it stands on the public session API alone. A notebook's page is trusted by who reads it, so all that a box gives
passes `sanitising` on the way there.
"""

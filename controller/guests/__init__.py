"""The interpreter that runs as guest: its properties (guest.py), and how it is found (finding.py).

translated/ has the code for a PyPy that marshals its calls itself.
"""

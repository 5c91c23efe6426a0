"""Which interpreter runs as guest: what a guest is (guest.py), and how it is found (finding.py).

translated/ has what is needed besides for a PyPy that marshals its calls itself.
"""

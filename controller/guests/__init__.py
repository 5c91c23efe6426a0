"""Which interpreter runs as guest: what it is (guest.py), how it is found (finding.py), and what a PyPy that marshals
its calls itself needs besides (translated/)."""

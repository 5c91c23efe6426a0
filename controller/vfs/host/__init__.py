"""Folders of the host as a guest sees them.

Only boundary.py opens host paths; the other files hold what it opened.
"""

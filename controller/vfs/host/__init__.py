"""Folders of the host as a guest sees them. boundary.py alone opens host paths; the other files hold what it opened."""

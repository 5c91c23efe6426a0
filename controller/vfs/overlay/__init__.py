"""Folders of the host that a guest may change without the host noticing: read below, written in memory (mount.py), and
what has changed told (collecting.py, changes.py)."""

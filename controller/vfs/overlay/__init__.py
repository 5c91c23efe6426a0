"""Folders of the host that a guest may change while the host's files stay as they are.

mount.py reads the host's files and keeps what is written in memory; collecting.py and changes.py tell what has
changed.
"""

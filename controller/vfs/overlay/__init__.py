"""Folders of the host that a guest may change while the host's files stay as they are.

mount.py reads the host's files and stores changes in memory; collecting.py and changes.py report the changes.
"""

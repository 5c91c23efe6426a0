"""The virtual filesystem: nodes in a tree of mounts. Names and paths are bytes; only namei.py and tree.py walk them.

See README.md in this folder for an overview.
"""

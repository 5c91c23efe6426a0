"""One box, from a policy to a world and a process, to its end.

Worlds are copied here too, because their copier must know every kind of object that a world holds.
"""

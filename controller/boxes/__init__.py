"""One box: what it is made of, from a policy to a world and a process, to its end. Copies of worlds are made here, too:
they know every kind of thing that a world holds."""

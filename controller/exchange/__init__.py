"""What a guest's Python and its caller say to each other: plain values (values.py), functions of the caller's
(hostfunctions.py), and the one OS call that carries them (port.py)."""

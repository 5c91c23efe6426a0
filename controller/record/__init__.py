"""What went into a run, written down as it went, and a guest that is answered from that alone.

Rule: whatever is read here may have been forged. A record gives a guest nothing but bytes, and leads to no file of the
host but those of the interpreter's own library that every box sees.
"""
